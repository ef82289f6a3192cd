const FAMILIES = ("v1", "v1_bottleneck", "v2")
const ROUNDINGS = ("floor", "nearest", "multiple_of_8")
const PADDINGS = ("symmetric", "keras")
const ACTIVATIONS = ("relu6", "relu")

"Input sizes of Howard et al., arXiv:1704.04861, section 3.4."
const RESOLUTIONS = (224, 192, 160, 128)

"Channels of the first convolution of every family, before the width multiplier."
const STEM_CHANNELS = 32

"Depth multipliers of published V2s: timm, models/efficientnet.py."
const DEPTHS = (1.0, 1.2, 1.4)

"Defaults of the fields whose default depends on the family."
const FAMILY_DEFAULTS = Dict(
    "v1" => (width_mult=1.0, rounding="floor", bottleneck_ratio=nothing),
    "v1_bottleneck" => (width_mult=0.1, rounding="nearest", bottleneck_ratio=0.9997),
    "v2" => (width_mult=1.0, rounding="multiple_of_8", bottleneck_ratio=nothing),
)

"""
    MobileNets.rounded(channels, width_mult, rounding)

`channels * width_mult` as a whole number, by the rule `rounding`; the result may be 0.

- `:floor` truncates, as the V1 paper's and Keras' code does.
- `:nearest` rounds to the nearest integer, ties to even.
- `:multiple_of_8` is torchvision's `_make_divisible` (models/_utils.py): the nearest multiple of 8, at least
  8, or the next one if the result is less than 0.9 of the exact width.

Throws a `ConfigError` for an unknown rule. Strings are accepted in place of symbols.

```jldoctest
julia> [MobileNets.rounded(32, 0.55, rounding) for rounding in (:floor, :nearest, :multiple_of_8)]
3-element Vector{Int64}:
 17
 18
 16
```
"""
function rounded(channels, width_mult, rounding)
    rule, width = checked_choice("rounding", rounding, ROUNDINGS), width_mult * channels
    rule == "floor" && return trunc(Int, width)
    rule == "nearest" && return round(Int, width)
    multiple = max(8, trunc(Int, width + 4) ÷ 8 * 8)
    return multiple >= 0.9 * width ? multiple : multiple + 8
end

"""
    MobileNetConfig(; family=:v1, width_mult=nothing, resolution=224, num_classes=1000, in_channels=3,
                    stem_stride=2, rounding=nothing, padding=:symmetric, bottleneck_ratio=nothing,
                    activation=:relu6, norm_eps=1e-5, norm_momentum=0.1, dropout=0.0, softmax=false)

The architecture of a MobileNet. `nothing` selects the default of the family, which the config then holds.
Options are symbols or strings; the fields hold strings, the form of the files.

# Arguments

- `family`: `:v1` (Howard et al., arXiv:1704.04861), `:v1_bottleneck` (the V1 of a Flux case study, whose
  blocks have a second 1x1 convolution) or `:v2` (Sandler et al., arXiv:1801.04381).
- `width_mult`: the width multiplier, alpha in the V1 paper, in (0, 2]. Default 1; 0.1 for `:v1_bottleneck`.
- `resolution`: width and height of the images in pixels, rho times 224 in the V1 paper. No parameter
  depends on it.
- `num_classes`, `in_channels`: outputs of the classifier; channels of the images.
- `stem_stride`: 2 in the papers. With 1, images of 32x32 pixels are not reduced to a single pixel; in `:v2`
  the second stage then has stride 1 too, the usual form for CIFAR.
- `rounding`: rounding of scaled widths, see [`MobileNets.rounded`](@ref). Default `:floor` for `:v1`,
  `:nearest` for `:v1_bottleneck`, `:multiple_of_8` for `:v2`.
- `padding`: zero padding of 3x3 convolutions: `:symmetric`, or `:keras`, which at stride 2 pads only below
  and to the right.
- `bottleneck_ratio`: for `:v1_bottleneck` only, in (0, 1]: output channels of a block's first 1x1
  convolution divided by its input channels. Default 0.9997.
- `activation`: `:relu6` or `:relu`.
- `norm_eps`, `norm_momentum`: of batch normalisation; the momentum is the weight of the new batch.
- `dropout`: probability of dropping a feature before the classifier, in training.
- `softmax`: whether [`predict`](@ref) returns probabilities. Training uses the logits in either case.
- `depth_mult`: 1; in `:v2` also 1.2 or 1.4, as timm's `mobilenetv2_110d` and `_120d`: the repeats of all
  stages but the first and the last are multiplied and rounded up, and `width_mult` does not apply to the stem
  and the last 1x1 convolution.
- `head_conv`: whether `:v1` has a last 1x1 convolution to 1024 channels, as timm's `mobilenetv1_100h`.

Throws a `ConfigError` that names field, rule and value for a value outside its range.

```jldoctest
julia> MobileNetConfig(family=:v2, resolution=32, num_classes=100).rounding
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
    depth_mult::Float64 = 1.0
    head_conv::Bool = false

    function MobileNetConfig(
        family, width_mult, resolution, num_classes, in_channels, stem_stride, rounding, padding,
        bottleneck_ratio, activation, norm_eps, norm_momentum, dropout, softmax, depth_mult,
        head_conv,
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
            checked_depth(family, depth_mult),
            checked_head_conv(family, head_conv),
        )
    end
end

function checked_head_conv(family, head_conv)
    checked_flag("head_conv", head_conv) && family != "v1" || return head_conv
    throw(ConfigError("head_conv must be false except in v1. Received: $family"))
end

"`depth_mult` as a `Float64`."
function checked_depth(family, depth_mult)
    rule = "1 or, in the family v2, 1.2 or 1.4"
    depth_mult = checked_number(Float64, "depth_mult", depth_mult, 1, 2, rule)
    depth_mult in (family == "v2" ? DEPTHS : (1.0,)) && return depth_mult
    throw(ConfigError("depth_mult must be $rule. Received: $depth_mult with $family"))
end

"`width_mult` as a `Float64`; throws a `ConfigError` if the stem would have no channel."
function checked_width(width_mult, rounding)
    width_mult = checked_number(Float64, "width_mult", width_mult, nextfloat(0.0), 2, "in (0, 2]")
    rounded(STEM_CHANNELS, width_mult, rounding) >= 1 && return width_mult
    throw(ConfigError(
        "width_mult must leave the $STEM_CHANNELS channels of the stem at least one, " *
        "with rounding $(repr(rounding)). Received: $width_mult",
    ))
end

"The bottleneck ratio as a `Float64`; `nothing` for a family without one."
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
    MobileNets.from_multipliers(alpha, rho; fields...)

The [`MobileNetConfig`](@ref) for the two multipliers of the V1 paper. `alpha` becomes `width_mult`. `rho`, in
(0, 1], selects the one of the paper's resolutions 224, 192, 160 and 128 that is nearest to `rho * 224`; a
warning reports both if they differ. `fields` are the other fields of the config.

Throws a `ConfigError` for a multiplier outside its range.

```jldoctest
julia> MobileNets.from_multipliers(0.5, 6 / 7).resolution
192
```
"""
function from_multipliers(alpha, rho; fields...)
    is_multiplier = rho isa Real && !(rho isa Bool) && 0 < rho <= 1
    is_multiplier || throw(ConfigError("rho must be in (0, 1]. Received: $(repr(rho))"))
    exact = rho * 224
    resolution = argmin(size -> abs(size - exact), RESOLUTIONS)
    if abs(resolution - exact) > 1e-6
        @warn "rho $rho times 224 is $(round(exact; digits=2)) pixels; the nearest of " *
            "$(join(RESOLUTIONS, ", ")) is used: resolution $resolution"
    end
    return MobileNetConfig(; width_mult=alpha, resolution, fields...)
end

"The config with some fields changed."
with_fields(config::MobileNetConfig; changes...) = MobileNetConfig(;
    (name => getfield(config, name) for name in fieldnames(MobileNetConfig))..., changes...
)
