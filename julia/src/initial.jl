const NORM_CONSTANTS = ("weight" => 1, "bias" => 0, "running_mean" => 0, "running_var" => 1)

"""
    build(config; seed=0, dtype=Float32, init="he", kernels="fast")

A model with the initial weights of `seed`: the same bits as Python's, in every backend.

`init` names a rule, each the one its framework has for these layers. With fan_in = I/groups * kH * kW
and fan_out = O * kH * kW, for the classifier features and classes:

- "he": convolutions are uniform in ±sqrt(6 / fan_in), He et al., arXiv:1502.01852; the classifier's
  weight in ±1/sqrt(fan_in), its bias zero.
- "torch": what `nn.Conv2d` and `nn.Linear` start from: uniform in ±1/sqrt(fan_in), the classifier's bias
  too.
- "flux": `Flux.glorot_uniform`, ±sqrt(6 / (fan_in + fan_out)); bias zero.
- "torchvision": its MobileNetV2 (models/mobilenetv2.py): convolutions normal with deviation
  sqrt(2 / fan_out), the classifier's weight normal with deviation 0.01; bias zero.
- "keras": `GlorotUniform`. Keras has a depthwise kernel's two fans the other way round, which leaves
  their sum, so these are the weights of "flux".

Norms start at weight 1, bias 0, running mean 0 and variance 1. Values are rounded to `Float32` in every
`dtype`: a seed names one model, not one per precision.

`kernels` names what computes the model, one of [`KERNELS`](@ref).

Throws a `ConfigError` for a negative seed, a rule or kernels of another name, or a `dtype` that is neither
`Float32` nor `Float64`.

```jldoctest
julia> model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10); seed=1);

julia> size(predict(model, zeros(Float32, 32, 32, 3, 2)))
(10, 2)
```
"""
function build(
    config::MobileNetConfig; seed::Integer=0, dtype::Type=Float32, init="he", kernels="fast"
)
    dtype in (Float32, Float64) ||
        throw(ConfigError("dtype must be one of Float32, Float64. Received: $dtype"))
    rule = RULES[Symbol(checked_choice("init", init, string.(keys(RULES))))]
    model = undefined_model(config, dtype, kernels)
    arrays = parameters(model)
    for (index, weight) in enumerate(arrays)
        ndims(weight) > 1 && draw!(weight, rule(weight), seed, index - 1)
    end
    for unit in units(model), (name, constant) in NORM_CONSTANTS
        fill!(getfield(unit.norm, Symbol(name)), constant)
    end
    (; weight, bias) = model.classifier
    init == "torch" ? draw!(bias, rule(weight), seed, length(arrays) - 1) : fill!(bias, 0)
    return model
end

isconv(weight) = ndims(weight) == 4

"Inputs that one output is made of, and outputs that one input goes into; the last axes are I/g and O."
function fans(weight)
    taps = prod(size(weight)[1:(end - 2)])
    return taps * size(weight)[end - 1], taps * size(weight)[end]
end

uniform(bound) = word -> (2.0 * uniform64(word) - 1.0) * bound
normal(deviation) = word -> normal64(word) * deviation

he(weight) = uniform(sqrt((isconv(weight) ? 6.0 : 1.0) / first(fans(weight))))
by_fan_in(weight) = uniform(sqrt(1.0 / first(fans(weight))))
glorot(weight) = uniform(sqrt(6.0 / sum(fans(weight))))
by_fan_out(weight) = normal(isconv(weight) ? sqrt(2.0 / last(fans(weight))) : 0.01)

"Rule by name: a function of a word that gives a value of the weight."
const RULES = (he=he, torch=by_fan_in, flux=glorot, torchvision=by_fan_out, keras=glorot)

"""
Fill `array` with `Float32` values, `value` of the words of stream INIT with epoch 0 and `index`, the
position among all parameters.
"""
function draw!(array, value::F, seed, index) where {F}
    four_words = word_blocks(seed, STREAM.INIT, 0, index)
    for some in Iterators.partition(eachindex(array), 4)
        for (position, word) in zip(some, four_words(cld(last(some), 4)))
            array[position] = Float32(value(word))
        end
    end
    return array
end
