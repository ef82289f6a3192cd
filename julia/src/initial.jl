const NORM_CONSTANTS = ("weight" => 1, "bias" => 0, "running_mean" => 0, "running_var" => 1)

"""
    build(config; seed=0, dtype=Float32)

A model with the initial weights of `seed`: the same bits as Python's, in every backend.

The rule is He uniform, He et al., arXiv:1502.01852: convolution weights are uniform in
±sqrt(6 / fan_in) with fan_in = I/groups * kH * kW; the classifier's weight is uniform in
±1/sqrt(fan_in) and its bias zero. Norms start at weight 1, bias 0, running mean 0 and variance 1.
Values are rounded to `Float32` in every `dtype`: a seed names one model, not one per precision.

Throws a `ConfigError` for a negative seed, or a `dtype` that is neither `Float32` nor `Float64`.

```jldoctest
julia> model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10); seed=1);

julia> size(predict(model, zeros(Float32, 32, 32, 3, 2)))
(10, 2)
```
"""
function build(config::MobileNetConfig; seed::Integer=0, dtype::Type=Float32)
    dtype in (Float32, Float64) ||
        throw(ConfigError("dtype must be one of Float32, Float64. Received: $dtype"))
    model = undefined_model(config, dtype)
    for (index, weight) in enumerate(parameters(model))
        ndims(weight) == 4 && draw!(weight, 6.0, seed, index - 1)
        ndims(weight) == 2 && draw!(weight, 1.0, seed, index - 1)
    end
    for unit in units(model), (name, constant) in NORM_CONSTANTS
        fill!(getfield(unit.norm, Symbol(name)), constant)
    end
    fill!(model.classifier.bias, 0)
    return model
end

"""
Fill `weight` (its last axis is the output's) with `Float32` values uniform in ±sqrt(gain / fan_in),
from the words of stream INIT with epoch 0 and `index`, the position among all parameters.
"""
function draw!(weight, gain, seed, index)
    bound = sqrt(gain / prod(size(weight)[1:(end - 1)]))
    words = raw_words(seed, STREAM.INIT, 0, index, length(weight))
    for (position, word) in enumerate(words)
        weight[position] = Float32((2.0 * uniform64(word) - 1.0) * bound)
    end
    return weight
end
