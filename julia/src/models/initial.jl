# Initial weights; the docstring of `MobileNet` states the rules.

const NORM_CONSTANTS = ("weight" => 1, "bias" => 0, "running_mean" => 0, "running_var" => 1)

function MobileNet(
    config::MobileNetConfig; seed::Integer=0, dtype::Type=Float32, init=:he, kernels=:fast
)
    dtype in (Float32, Float64) ||
        throw(ConfigError("dtype must be one of Float32, Float64. Received: $dtype"))
    rule_name = Symbol(checked_choice("init", init, string.(keys(INIT_RULES))))
    rule = INIT_RULES[rule_name]
    model = undefined_model(config, dtype, kernels)
    arrays = parameters(model)
    for (index, weight) in enumerate(arrays)
        ndims(weight) > 1 && fill_random!(weight, rule(weight), seed, index - 1)
    end
    for unit in units(model), (name, constant) in NORM_CONSTANTS
        fill!(getfield(unit.norm, Symbol(name)), constant)
    end
    (; weight, bias) = model.classifier
    rule_name == :torch ? fill_random!(bias, rule(weight), seed, length(arrays) - 1) : fill!(bias, 0)
    return model
end

is_conv(weight) = ndims(weight) == 4

"fan_in and fan_out of a weight, whose last axes are I/groups and O."
function fans(weight)
    taps = prod(size(weight)[1:(end - 2)])
    return taps * size(weight)[end - 1], taps * size(weight)[end]
end

uniform(bound) = word -> (2.0 * uniform64(word) - 1.0) * bound
normal(deviation) = word -> normal64(word) * deviation

he_uniform(weight) = uniform(sqrt((is_conv(weight) ? 6.0 : 1.0) / first(fans(weight))))
fan_in_uniform(weight) = uniform(sqrt(1.0 / first(fans(weight))))
glorot_uniform(weight) = uniform(sqrt(6.0 / sum(fans(weight))))
fan_out_normal(weight) = normal(is_conv(weight) ? sqrt(2.0 / last(fans(weight))) : 0.01)

"Name => rule: the function of a weight that returns a function from a word to a value."
const INIT_RULES = (
    he=he_uniform, torch=fan_in_uniform, flux=glorot_uniform, torchvision=fan_out_normal,
    keras=glorot_uniform,
)

"""
Fill `array` with `Float32` values, each `value(word)` of the words of stream INIT, with epoch 0 and `index`, the
position of the array among all parameters.
"""
function fill_random!(array, value::F, seed, index) where {F}
    four_words = word_blocks(seed, STREAM.INIT, 0, index)
    for positions in Iterators.partition(eachindex(array), 4)
        for (position, word) in zip(positions, four_words(cld(last(positions), 4)))
            array[position] = Float32(value(word))
        end
    end
    return array
end
