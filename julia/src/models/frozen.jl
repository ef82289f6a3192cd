# Models for inference alone: every norm is folded into the convolution before it, and every weight is packed once
# into the layout of its kernel.

"A unit of a frozen model: `activate(conv(x) + bias)`, plus the input of the block if `residual`."
struct FrozenUnit{T,C,W}
    conv::C
    weight::W
    outputs::Int
    activation::ClampActivation{T}
    residual::Bool
end

"`(conv - mean) / sqrt(var + eps) * weight + bias` as one convolution, computed in Float64 and rounded once."
function FrozenUnit((; conv, norm, clip_value, residual)::ConvNormAct{T}, channels) where {T}
    factor = Float64.(norm.weight) ./ sqrt.(norm.running_var .+ norm.eps)
    weight = T.(conv.weight .* reshape(factor, 1, 1, 1, :))
    bias = T.(norm.bias .- norm.running_mean .* factor)
    kind = conv_kind(weight, channels, conv)
    activation = ClampActivation{T}(clip_value)
    return FrozenUnit(kind, pack_weight(kind, weight, bias), length(bias), activation, residual)
end

"""
The result of [`MobileNets.freeze`](@ref), a function of images (W, H, C, N). For one task at a time. Of `model` only
the config and the shapes are read.
"""
struct FrozenModel{T}
    model::MobileNet{T}
    groups::Vector{Vector{FrozenUnit{T}}}
    classifier::Classifier{T}
    workspace::PooledWorkspace
end

Base.show(io::IO, frozen::FrozenModel) = print(io, "FrozenModel(", frozen.model, ")")

"""
    MobileNets.freeze(model)
    MobileNets.freeze(model, workspace::DeviceWorkspace)

A function of images (W, H, C, N) that returns what `predict(model, x)` returns now, faster. Norms are folded into
the convolutions, so the results differ from those of [`predict`](@ref) by rounding. Later changes of the model have
no effect on the function. With a [`DeviceWorkspace`](@ref), it computes on that device.

The function throws a `DataError` as `predict` does.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

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
            channels = frozen.outputs
            frozen
        end
    end
    return FrozenModel{T}(model, groups, deepcopy(model.classifier), PooledWorkspace())
end

function (frozen::FrozenModel)(images)
    x = checked_images(frozen.model, images)
    return with_team(() -> frozen_scores(frozen, x))
end

function frozen_scores((; model, groups, classifier, workspace)::FrozenModel, x)
    Kernels.reset!(workspace)
    maps = to_channels_last(x, workspace)
    for group in groups
        block_input = maps
        for unit in group
            next = frozen_maps(unit, maps, block_input, workspace)
            maps === block_input || release!(workspace, maps)
            maps = next
        end
        release!(workspace, block_input)
    end
    features = global_mean(FastKernels(workspace), maps)
    scores = linear(features, classifier.weight, classifier.bias, workspace)
    return model.config.softmax ? softmax(scores) : copy(scores)
end

function frozen_maps(
    (; conv, weight, outputs, activation, residual)::FrozenUnit{T}, x, block_input, workspace
) where {T}
    y = allocate(workspace, T, output_dims(conv, x, outputs)...)
    convolve_frozen!(y, x, weight, activation, conv, workspace)
    residual || return y
    total = residual_add(FastKernels(workspace), y, block_input)
    release!(workspace, y)
    return total
end
