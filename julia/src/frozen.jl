# Inference alone: every norm folded into the convolution before it, and every weight laid out once as its
# kernel reads it.

"A unit of a frozen model: `activated(conv(x) + bias)`, and the block's input added where `residual` says so."
struct FrozenUnit{T,C,W}
    conv::C
    weight::W
    bias::Vector{T}
    activation::Clamped{T}
    residual::Bool
end

"`(conv - mean) / sqrt(var + eps) * weight + bias` as one convolution, in Float64, rounded once."
function FrozenUnit((; conv, norm, ceiling, residual)::ConvNormAct{T}, channels) where {T}
    factor = Float64.(norm.weight) ./ sqrt.(norm.running_var .+ norm.eps)
    weight = T.(conv.weight .* reshape(factor, 1, 1, 1, :))
    bias = T.(norm.bias .- norm.running_mean .* factor)
    kind = conv_kind(weight, channels, conv)
    return FrozenUnit(kind, prepared(kind, weight, Fresh()), bias, Clamped{T}(ceiling), residual)
end

"""
What [`freeze`](@ref) gives: a function of images (W, H, C, N). For one task at a time. Of `model` only the
config and the shapes are read.
"""
struct Frozen{T}
    model::MobileNet{T}
    groups::Vector{Vector{FrozenUnit{T}}}
    classifier::Classifier{T}
    room::Pool
end

Base.show(io::IO, frozen::Frozen) = print(io, "Frozen(", frozen.model, ")")

"""
    freeze(model)

A function that gives what `predict(model, x)` gives now, for inference alone, and faster. Norms are folded
into the convolutions, which rounds otherwise than `predict` does. What happens to the model later does not
reach the function. It throws a `DataError` as [`predict`](@ref) does.

```jldoctest
julia> model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> x = ones(Float32, 32, 32, 3, 2);

julia> MobileNets.freeze(model)(x) ≈ predict(model, x)
true
```
"""
function freeze(model::MobileNet{T}) where {T}
    channels = model.config.in_channels
    groups = map(unit_groups(model)) do group
        map(collect(group)) do unit
            frozen = FrozenUnit(unit, channels)
            channels = length(frozen.bias)
            frozen
        end
    end
    return Frozen{T}(model, groups, deepcopy(model.classifier), Pool())
end

function (frozen::Frozen)(images)
    (; model, groups, classifier, room) = frozen
    x = checked_images(model, images)
    reset!(room)
    maps = channels_first(x, room)
    for group in groups
        entered = maps
        for unit in group
            next = frozen_maps(unit, maps, entered, room)
            maps === entered || release!(room, maps)
            maps = next
        end
        release!(room, entered)
    end
    features = global_mean(Fast(room), maps)
    scores = linear(features, classifier.weight, classifier.bias, room)
    return model.config.softmax ? softmax(scores) : copy(scores)
end

function frozen_maps((; conv, weight, bias, activation, residual)::FrozenUnit{T}, x, entered, room) where {T}
    y = array(room, T, output_dims(conv, x, length(bias))...)
    convolve!(y, x, weight, conv, room) do _, range
        add_bias!(y, bias, activation, range)
    end
    residual || return y
    total = add(Fast(room), y, entered)
    release!(room, y)
    return total
end

"Add the bias to the pixels `range` of the maps `y` (C, W, H, N), and activate them."
function add_bias!(y, bias, activation, range)
    channels = length(bias)
    @inbounds for pixel in range
        before = (pixel - 1) * channels
        @simd ivdep for c in 1:channels
            y[before + c] = activated(activation, y[before + c] + bias[c], before + c)
        end
    end
end
