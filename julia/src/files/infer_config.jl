# The config of a model from the sizes of its weights, by the algorithm of Python's formats/infer_config.py.
#
# Every rounding is monotone in the width multiplier, so the multipliers that give the widths of a model are an
# interval of floating-point numbers, whose ends are found exactly, by bisection. All numbers in the interval give the
# same model. The config has a published multiplier of the interval or, if there is none, the shortest decimal.

"""
Multipliers in the order of preference: Howard et al., arXiv:1704.04861, table 6; Keras' MobileNetV2 (0.35 to 1.4);
timm's mobilenetv1_125; the Flux case study (0.1 and 0.9997).
"""
const PUBLISHED_MULTIPLIERS = (
    width_mult=(1.0, 0.75, 0.5, 0.25, 0.35, 1.4, 1.3, 1.25, 0.1), bottleneck_ratio=(0.9997,)
)

"The largest multipliers of a `MobileNetConfig`."
const LARGEST_MULTIPLIERS = (width_mult=2.0, bottleneck_ratio=1.0)

"""
    infer_config(family::AbstractString, shapes; rounding=nothing)

The config of a family whose weights have the sizes `shapes`, a `Dict` of canonical name => size that has at least all
`<layer>.conv.weight` and `classifier.weight`. `rounding` is that of the model if it is known; otherwise that of the
family is tried first, then the others. Fields that the sizes do not determine have their default.

Throws a `WeightsError` that names the tensor or layer if no config gives these sizes.
"""
function infer_config(family::AbstractString, shapes::AbstractDict; rounding=nothing)
    trunk = trunk_of(family, shapes)
    for (name, expected) in state_shapes(trunk)
        haskey(shapes, name) && length(shapes[name]) != length(expected) && throw(WeightsError(
            "$name must have $(length(expected)) axes. Received: $(shapes[name])"
        ))
    end
    default = FAMILY_DEFAULTS[family].rounding
    rules = isnothing(rounding) ? [default; filter(!=(default), collect(ROUNDINGS))] : [rounding]
    errors = String[]
    for rule in rules
        try
            return infer_with_rounding(trunk, shapes, rule)
        catch error
            error isa Union{ConfigError,WeightsError} || rethrow()
            push!(errors, "$(error.msg) (rounding $rule)")
        end
    end
    throw(WeightsError(first(errors)))
end

"The config in `TRUNKS` of a family whose layers are those in `shapes`; throws a `WeightsError` if there is none."
function trunk_of(family, shapes)
    suffix = ".conv.weight"
    names = Set(chopsuffix(name, suffix) for name in keys(shapes) if endswith(name, suffix))
    for trunk in TRUNKS
        trunk.family == family && Set(layer.name for layer in layers(trunk)) == names && return trunk
    end
    throw(WeightsError("no net of family $family has these layers. Received: $(length(names)) layers"))
end

function infer_with_rounding(trunk, shapes, rounding)
    config = with_fields(
        trunk; rounding, num_classes=last(shapes["classifier.weight"]),
        in_channels=shapes["stem.conv.weight"][3],
    )
    names = [layer.name for layer in layers(config)]
    is_reduce(name) = endswith(name, ".reduce")
    config = infer_multiplier(config, :width_mult, filter(!is_reduce, names), shapes)
    isnothing(config.bottleneck_ratio) ||
        (config = infer_multiplier(config, :bottleneck_ratio, filter(is_reduce, names), shapes))
    for (name, expected) in state_shapes(config)
        haskey(shapes, name) && shapes[name] != expected && throw(WeightsError(
            "$name must have shape $expected. Received: $(shapes[name])"
        ))
    end
    return config
end

"The config with the multiplier `field` that gives the layers `names` the channels in `shapes`."
function infer_multiplier(config, field, names, shapes)
    channels = [last(shapes["$name.conv.weight"]) for name in names]
    largest = LARGEST_MULTIPLIERS[field]
    function widths(value)
        table = try
            Dict(layer.name => layer.out_channels for layer in layers(with_fields(config; field => value)))
        catch error # a value so small that a layer has no channel
            error isa ConfigError || rethrow()
            return zeros(Int, length(names))
        end
        return [table[name] for name in names]
    end
    low = first_float(value -> all(widths(value) .>= channels), largest)
    high = first_float(value -> any(widths(value) .> channels), largest)
    low < high || throw_no_multiplier(field, names, channels, widths, min(low, largest))
    published = filter(value -> low <= value < high, collect(PUBLISHED_MULTIPLIERS[field]))
    value = isempty(published) ? shortest_decimal(low, high) : first(published)
    return with_fields(config; field => value)
end

"The smallest float in (0, largest] for which a monotone condition is true; the one after `largest` if there is none."
function first_float(condition, largest)
    low, high = 0, reinterpret(Int64, largest) + 1 # positive floats are ordered as the integers of their bits
    while high - low > 1
        middle = low + (high - low) ÷ 2
        condition(reinterpret(Float64, middle)) ? (high = middle) : (low = middle)
    end
    return reinterpret(Float64, high)
end

"The number in [low, high) with the fewest decimals, and of these the smallest."
function shortest_decimal(low, high)
    for decimals in 1:17
        digits = ceil(BigInt, Rational{BigInt}(low) * big(10)^decimals)
        value = parse(Float64, "$(digits)e-$decimals")
        low <= value < high && return value
    end
    return low
end

"Throw a `WeightsError` that names two layers whose channels contradict each other, or one that is too wide."
function throw_no_multiplier(field, names, channels, widths, low)
    rows = collect(zip(names, channels, widths(low)))
    for (name, count, width) in rows
        width < count && throw(WeightsError(
            "$name has $count channels; $field $(json_text(low)) gives it only $width"
        ))
    end
    below = widths(prevfloat(low))
    binding, binding_count = only(Iterators.take(
        ((name, count) for ((name, count, _), width) in zip(rows, below) if width < count), 1
    ))
    for (name, count, width) in rows
        width > count && throw(WeightsError(
            "$name has $count channels, but $width or more wherever $field gives $binding its $binding_count"
        ))
    end
end
