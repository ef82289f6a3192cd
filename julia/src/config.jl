const FAMILIES = ("v1", "v1_bottleneck", "v2")
const ROUNDINGS = ("floor", "nearest", "multiple_of_8")
const PADDINGS = ("symmetric", "keras")
const ACTIVATIONS = ("relu6", "relu")
const OPTIMIZERS = ("sgd", "adam")
const PREPROCESSINGS = ("unit", "standard", "keras")

"The input sizes of Howard et al., arXiv:1704.04861, section 3.4."
const RESOLUTIONS = (224, 192, 160, 128)

"Channels of the first convolution of every family, before the width multiplier."
const STEM_CHANNELS = 32

"What a field is where nothing is given, for the fields whose default depends on the family."
const FAMILY_DEFAULTS = Dict(
    "v1" => (width_mult=1.0, rounding="floor", bottleneck_ratio=nothing),
    "v1_bottleneck" => (width_mult=0.1, rounding="nearest", bottleneck_ratio=0.9997),
    "v2" => (width_mult=1.0, rounding="multiple_of_8", bottleneck_ratio=nothing),
)

"""
    rounded(channels, width_mult, rounding)

`channels` after the width multiplier, a whole number by the rule `rounding`; it may be 0.

"floor" cuts off, as the V1 paper's and Keras' code does; "nearest" takes the even one of two that are
equally near; "multiple_of_8" is torchvision's `_make_divisible` (models/_utils.py): the nearest multiple
of 8, at least 8, and the next one where that would lose more than a tenth.

```jldoctest
julia> [rounded(32, 0.55, rounding) for rounding in ("floor", "nearest", "multiple_of_8")]
3-element Vector{Int64}:
 17
 18
 16
```
"""
function rounded(channels, width_mult, rounding)
    width = width_mult * channels
    rounding == "floor" && return trunc(Int, width)
    rounding == "nearest" && return round(Int, width)
    multiple = max(8, trunc(Int, width + 4) ÷ 8 * 8)
    return multiple >= 0.9 * width ? multiple : multiple + 8
end

"""
    MobileNetConfig(; family="v1", width_mult=nothing, resolution=224, num_classes=1000, in_channels=3,
                    stem_stride=2, rounding=nothing, padding="symmetric", bottleneck_ratio=nothing,
                    activation="relu6", norm_eps=1e-5, norm_momentum=0.1, dropout=0.0, softmax=false)

The architecture of one MobileNet. `nothing` is the family's own default, which the config then holds.

- `family`: "v1" (Howard et al., arXiv:1704.04861), "v1_bottleneck" (the Flux case study's V1, whose
  blocks have a second 1x1 convolution) or "v2" (Sandler et al., arXiv:1801.04381).
- `width_mult`: the V1 paper's alpha, in (0, 2]; 1, for "v1_bottleneck" 0.1.
- `resolution`: pixels, the V1 paper's rho times 224: the size of the images the net is meant for, a
  property of the input and of no weight.
- `stem_stride`: 2 in the papers; 1 keeps 32x32 images from shrinking to one pixel. In "v2" it is the
  CIFAR form, where the second stage's stride is 1 too.
- `rounding`: how scaled widths become whole, see [`rounded`](@ref); "floor" for "v1", "nearest" for
  "v1_bottleneck", "multiple_of_8" for "v2".
- `padding`: zeros around maps: "symmetric", or "keras": at stride 2 below and to the right only.
- `bottleneck_ratio`: for "v1_bottleneck" alone, in (0, 1]: channels of a block's first 1x1 convolution
  over those of its input; 0.9997.
- `norm_momentum`: the weight of the new batch in the running statistics.
- `dropout`: the probability of dropping a feature before the classifier.
- `softmax`: `predict` gives probabilities. Training takes the logits all the same.

Throws a `ConfigError` that names field, rule and value for a value outside its range.

```jldoctest
julia> MobileNetConfig(family="v2", resolution=32, num_classes=100).rounding
"multiple_of_8"
```
"""
Base.@kwdef struct MobileNetConfig
    family::String = "v1"
    width_mult::Float64 = nothing
    resolution::Int = 224
    num_classes::Int = 1000
    in_channels::Int = 3
    stem_stride::Int = 2
    rounding::String = nothing
    padding::String = "symmetric"
    bottleneck_ratio::Union{Nothing,Float64} = nothing
    activation::String = "relu6"
    norm_eps::Float64 = 1e-5
    norm_momentum::Float64 = 0.1
    dropout::Float64 = 0.0
    softmax::Bool = false

    function MobileNetConfig(
        family, width_mult, resolution, num_classes, in_channels, stem_stride, rounding, padding,
        bottleneck_ratio, activation, norm_eps, norm_momentum, dropout, softmax,
    )
        family = checked_choice("family", family, FAMILIES)
        defaults = FAMILY_DEFAULTS[family]
        rounding = checked_choice("rounding", something(rounding, defaults.rounding), ROUNDINGS)
        return new(
            family,
            checked_width(something(width_mult, defaults.width_mult), rounding),
            checked_number(Int, "resolution", resolution, 32, 4096, "in [32, 4096] pixels"),
            checked_number(Int, "num_classes", num_classes, 1, 10^6, "in [1, 1000000]"),
            checked_number(Int, "in_channels", in_channels, 1, 4096, "in [1, 4096]"),
            checked_number(Int, "stem_stride", stem_stride, 1, 2, "1 or 2"),
            rounding,
            checked_choice("padding", padding, PADDINGS),
            checked_ratio(family, bottleneck_ratio, defaults.bottleneck_ratio),
            checked_choice("activation", activation, ACTIVATIONS),
            checked_number(Float64, "norm_eps", norm_eps, 1e-12, 1, "in [1e-12, 1]"),
            checked_number(Float64, "norm_momentum", norm_momentum, 0, 1, "in [0, 1]"),
            checked_number(Float64, "dropout", dropout, 0, 0.999, "in [0, 0.999]"),
            checked_flag("softmax", softmax),
        )
    end
end

"`width_mult` as a `Float64` that leaves the stem a channel."
function checked_width(width_mult, rounding)
    width_mult = checked_number(Float64, "width_mult", width_mult, nextfloat(0.0), 2, "in (0, 2]")
    rounded(STEM_CHANNELS, width_mult, rounding) >= 1 && return width_mult
    throw(ConfigError(
        "width_mult must leave the $STEM_CHANNELS channels of the stem at least one, " *
        "with rounding $(repr(rounding)). Received: $width_mult",
    ))
end

"The bottleneck's ratio as a `Float64`, or `nothing` for a `family` that has none."
function checked_ratio(family, ratio, default)
    if isnothing(default)
        isnothing(ratio) && return nothing
        throw(ConfigError(
            "bottleneck_ratio belongs to the family v1_bottleneck alone. " *
            "Received: $(repr(ratio)) with $family",
        ))
    end
    ratio = something(ratio, default)
    return checked_number(Float64, "bottleneck_ratio", ratio, nextfloat(0.0), 1, "in (0, 1]")
end

"""
    TrainConfig(; optimizer="sgd", rate=0.1, momentum=0.9, beta1=0.9, beta2=0.999, eps=1e-8,
                batch_size=128, steps=200, seed=0, crop_padding=4, flip=true, rotation=0, cutout=0,
                mixup=0.0, preprocessing="standard")

How a model is trained: optimizer, rate, batches, and how images are moved about.

SGD is `v = momentum * v + g; p -= rate * v`; Adam is Kingma & Ba, arXiv:1412.6980, algorithm 1, with
`eps` added outside the root. `seed` fixes the order of the images, the crops and the flips (see
[`BatchPlan`](@ref)). `crop_padding` is in pixels. Images are rotated by up to `rotation` degrees either way,
lose a square of `cutout` pixels, and are mixed in pairs where `mixup` is 1. `preprocessing` makes numbers
of their bytes: "unit" 0 to 1, "keras" -1 to 1, "standard" by the mean and deviation of the training images.
Throws a `ConfigError` as `MobileNetConfig` does.
"""
Base.@kwdef struct TrainConfig
    optimizer::String = "sgd"
    rate::Float64 = 0.1
    momentum::Float64 = 0.9
    beta1::Float64 = 0.9
    beta2::Float64 = 0.999
    eps::Float64 = 1e-8
    batch_size::Int = 128
    steps::Int = 200
    seed::Int = 0
    crop_padding::Int = 4
    flip::Bool = true
    rotation::Int = 0
    cutout::Int = 0
    mixup::Float64 = 0.0
    preprocessing::String = "standard"

    function TrainConfig(
        optimizer, rate, momentum, beta1, beta2, eps, batch_size, steps, seed, crop_padding, flip,
        rotation, cutout, mixup, preprocessing,
    )
        return new(
            checked_choice("optimizer", optimizer, OPTIMIZERS),
            checked_number(Float64, "rate", rate, 0, 1e6, "in [0, 1e6]"),
            checked_number(Float64, "momentum", momentum, 0, 1, "in [0, 1]"),
            checked_number(Float64, "beta1", beta1, 0, 1 - 1e-12, "in [0, 1)"),
            checked_number(Float64, "beta2", beta2, 0, 1 - 1e-12, "in [0, 1)"),
            checked_number(Float64, "eps", eps, 0, 1, "in [0, 1]"),
            checked_number(Int, "batch_size", batch_size, 1, 10^7, "at least 1"),
            checked_number(Int, "steps", steps, 0, 10^9, "at least 0"),
            checked_number(Int, "seed", seed, 0, typemax(Int), "in [0, 2^63)"),
            checked_number(Int, "crop_padding", crop_padding, 0, 1024, "in [0, 1024] pixels"),
            checked_flag("flip", flip),
            checked_number(Int, "rotation", rotation, 0, 180, "in [0, 180] degrees"),
            checked_number(Int, "cutout", cutout, 0, 4096, "in [0, 4096] pixels"),
            checked_mixup(mixup),
            checked_choice("preprocessing", preprocessing, PREPROCESSINGS),
        )
    end
end

"`mixup` as a `Float64`: 0 or 1."
function checked_mixup(mixup)
    rule = "0 (off) or 1 (uniform weights)"
    alpha = checked_number(Float64, "mixup", mixup, 0, 1, rule)
    isinteger(alpha) || throw(ConfigError("mixup must be $rule. Received: $alpha"))
    return alpha
end

"""
    from_multipliers(alpha, rho; fields...)

The config for the paper's two multipliers. `alpha` becomes `width_mult`. `rho * 224` is rarely a
size the paper used, so the nearest of 224, 192, 160 and 128 is taken, and a warning reports both
when they differ.

```jldoctest
julia> from_multipliers(0.5, 6 / 7).resolution
192
```
"""
function from_multipliers(alpha, rho; fields...)
    isrho = rho isa Real && !(rho isa Bool) && 0 < rho <= 1
    isrho || throw(ConfigError("rho must be in (0, 1]. Received: $(repr(rho))"))
    wanted = rho * 224
    resolution = argmin(size -> abs(size - wanted), RESOLUTIONS)
    if abs(resolution - wanted) > 1e-6
        @warn "rho $rho times 224 is $(round(wanted; digits=2)) pixels; the nearest of " *
            "$(join(RESOLUTIONS, ", ")) is used: resolution $resolution"
    end
    return MobileNetConfig(; width_mult=alpha, resolution, fields...)
end

"""
    to_json(config)

JSON with sorted keys and no spaces, the same bytes as Python's: equal configs give equal text.
"""
function to_json(config::Union{MobileNetConfig,TrainConfig})
    names = sort!(collect(fieldnames(typeof(config))))
    return json_text([string(name) => getfield(config, name) for name in names])
end

"""
    from_json(MobileNetConfig, text)
    from_json(TrainConfig, text)

The config in a JSON object; absent fields take their default. Throws a `ConfigError` for text that
is no JSON object, an unknown field, or a value outside its range.
"""
function from_json(kind::Type{<:Union{MobileNetConfig,TrainConfig}}, text::AbstractString)
    values = try
        parse_object(text)
    catch error
        error isa ArgumentError || rethrow()
        throw(ConfigError("$(nameof(kind)): $(error.msg)"))
    end
    known = sort!(collect(string.(fieldnames(kind))))
    unknown = sort!(collect(setdiff(keys(values), known)))
    if !isempty(unknown)
        throw(ConfigError(
            "$(nameof(kind)) has no field $(repr(unknown[1])); its fields are $(join(known, ", "))"
        ))
    end
    defaults = default_config(kind, values)
    fields = fieldnames(kind)
    return kind((get(values, string(name), getfield(defaults, name)) for name in fields)...)
end

"The config that fields absent from `values` are taken from."
default_config(::Type{TrainConfig}, values) = TrainConfig()
default_config(::Type{MobileNetConfig}, values) =
    MobileNetConfig(; family=get(values, "family", "v1"))

"`value` as a `kind`, or a `ConfigError` with the rule it broke."
function checked_number(kind, name, value, low, high, rule)
    isnumber = value isa Real && !(value isa Bool)
    if !isnumber || !isfinite(value) || !(low <= value <= high)
        throw(ConfigError("$name must be $rule. Received: $(repr(value))"))
    end
    if kind <: Integer && !isinteger(value)
        throw(ConfigError("$name must be a whole number, $rule. Received: $(repr(value))"))
    end
    return kind(value) + zero(kind) # -0.0 is 0.0, in the text too
end

function checked_choice(name, value, choices)
    value in choices && return string(value)
    throw(ConfigError("$name must be one of $(join(choices, ", ")). Received: $(repr(value))"))
end

function checked_flag(name, value)
    value isa Bool && return value
    throw(ConfigError("$name must be true or false. Received: $(repr(value))"))
end
