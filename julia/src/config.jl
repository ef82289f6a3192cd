const FAMILIES = ("v1",)
const ACTIVATIONS = ("relu6", "relu")
const OPTIMIZERS = ("sgd", "adam")

"The input sizes of Howard et al., arXiv:1704.04861, section 3.4."
const RESOLUTIONS = (224, 192, 160, 128)

"""
    MobileNetConfig(; family="v1", width_mult=1.0, resolution=224, num_classes=1000, in_channels=3,
                    stem_stride=2, activation="relu6", norm_eps=1e-5, norm_momentum=0.1, dropout=0.0)

The architecture of one MobileNet.

`width_mult` is the paper's alpha: each layer has `trunc(width_mult * channels)` channels, as in the
paper's own and Keras' code. `resolution` (pixels) is its rho times 224: the size of the images the
net is meant for, a property of the input and of no weight. `stem_stride` is 2 in the paper; 1 keeps
32x32 images from shrinking to one pixel. `dropout` is the probability of dropping a feature before
the classifier. `norm_momentum` is the weight of the new batch in the running statistics.

Throws a `ConfigError` that names field, rule and value for a value outside its range.

```jldoctest
julia> MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100).stem_stride
2
```
"""
Base.@kwdef struct MobileNetConfig
    family::String = "v1"
    width_mult::Float64 = 1.0
    resolution::Int = 224
    num_classes::Int = 1000
    in_channels::Int = 3
    stem_stride::Int = 2
    activation::String = "relu6"
    norm_eps::Float64 = 1e-5
    norm_momentum::Float64 = 0.1
    dropout::Float64 = 0.0

    function MobileNetConfig(
        family, width_mult, resolution, num_classes, in_channels, stem_stride, activation,
        norm_eps, norm_momentum, dropout,
    )
        family = checked_choice("family", family, FAMILIES)
        activation = checked_choice("activation", activation, ACTIVATIONS)
        width_mult = checked_number(Float64, "width_mult", width_mult, nextfloat(0.0), 2, "in (0, 2]")
        if trunc(Int, 32 * width_mult) < 1
            throw(ConfigError(
                "width_mult must leave the 32 channels of the stem at least one: " *
                "trunc(32 * width_mult) >= 1. Received: $width_mult",
            ))
        end
        return new(
            family,
            width_mult,
            checked_number(Int, "resolution", resolution, 32, 4096, "in [32, 4096] pixels"),
            checked_number(Int, "num_classes", num_classes, 1, 10^6, "in [1, 1000000]"),
            checked_number(Int, "in_channels", in_channels, 1, 4096, "in [1, 4096]"),
            checked_number(Int, "stem_stride", stem_stride, 1, 2, "1 or 2"),
            activation,
            checked_number(Float64, "norm_eps", norm_eps, 1e-12, 1, "in [1e-12, 1]"),
            checked_number(Float64, "norm_momentum", norm_momentum, 0, 1, "in [0, 1]"),
            checked_number(Float64, "dropout", dropout, 0, 0.999, "in [0, 0.999]"),
        )
    end
end

"""
    TrainConfig(; optimizer="sgd", rate=0.1, momentum=0.9, beta1=0.9, beta2=0.999, eps=1e-8,
                batch_size=128, steps=200, seed=0, crop_padding=4, flip=true)

How a model is trained: optimizer, rate, batches, and how images are moved about.

SGD is `v = momentum * v + g; p -= rate * v`; Adam is Kingma & Ba, arXiv:1412.6980, algorithm 1, with
`eps` added outside the root. `seed` fixes the order of the images, the crops and the flips (see
[`BatchPlan`](@ref)). `crop_padding` is in pixels. Throws a `ConfigError` as `MobileNetConfig` does.
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

    function TrainConfig(
        optimizer, rate, momentum, beta1, beta2, eps, batch_size, steps, seed, crop_padding, flip
    )
        flip isa Bool || throw(ConfigError("flip must be true or false. Received: $(repr(flip))"))
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
            flip,
        )
    end
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
        throw(ConfigError("$(nameof(kind)): $(error.msg). Received: $(repr(first(text, 80)))"))
    end
    known = sort!(collect(string.(fieldnames(kind))))
    unknown = sort!(collect(setdiff(keys(values), known)))
    if !isempty(unknown)
        throw(ConfigError(
            "$(nameof(kind)) has no field $(repr(unknown[1])); its fields are $(join(known, ", "))"
        ))
    end
    defaults = kind()
    fields = fieldnames(kind)
    return kind((get(values, string(name), getfield(defaults, name)) for name in fields)...)
end

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
