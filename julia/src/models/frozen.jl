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
the config and the shapes are read. The `leading` groups have few weights: they are computed for a micro-batch at a
time.
"""
struct FrozenModel{T}
    model::MobileNet{T}
    leading::Vector{Vector{FrozenUnit{T}}}
    remaining::Vector{Vector{FrozenUnit{T}}}
    classifier::Classifier{T}
    workspace::PooledWorkspace
    workspaces::WorkspacePool
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
    leading = count(<=(LEADING_WEIGHT_BYTES), cumsum(map(group -> sum(weight_bytes, group), groups)))
    return FrozenModel{T}(
        model, groups[1:leading], groups[(leading + 1):end], deepcopy(model.classifier), PooledWorkspace(),
        WorkspacePool(),
    )
end

"""
Bytes that a second-level cache holds: of the weights of the leading groups together, and of the input and output of
one of their units for a micro-batch. Half and twice as many were about as fast with caches of 2 MB a core.
"""
const LEADING_WEIGHT_BYTES, MICRO_BATCH_BYTES = 2^19, 2^19

weight_bytes(unit::FrozenUnit) = sizeof(unit.weight.weight)

function (frozen::FrozenModel)(images)
    x = checked_images(frozen.model, images)
    return with_team(() -> frozen_scores(frozen, x))
end

function frozen_scores((; model, leading, remaining, classifier, workspace, workspaces)::FrozenModel, x)
    Kernels.reset!(workspace)
    sizes = unit_sizes(leading, size(x))
    micro_batch = images_per_micro_batch(sizes, eltype(x))
    if size(x, 4) >= micro_batch * Threads.nthreads()
        maps = allocate(workspace, eltype(x), last(sizes)...)
        run_on_team(size(x, 4), cld(size(x, 4), micro_batch)) do _, images
            with_workspace(workspaces) do own
                output = group_maps(leading, to_channels_last(image_range(x, images), own), own)
                copyto!(image_range(maps, images), output)
            end
        end
    else
        maps = group_maps(leading, to_channels_last(x, workspace), workspace)
    end
    features = global_mean(FastKernels(workspace), group_maps(remaining, maps, workspace))
    scores = linear(features, classifier.weight, classifier.bias, workspace)
    return model.config.softmax ? softmax(scores) : copy(scores)
end

"Sizes of the input of each unit and of the last output, for images (W, H, C, N)."
function unit_sizes(groups, (width, height, channels, images)::Dims{4})
    sizes = Dims{4}[(channels, width, height, images)]
    for unit in Iterators.flatten(groups)
        push!(sizes, output_dims(unit.conv, last(sizes), unit.outputs))
    end
    return sizes
end

"The number of images for which the input and output of each unit fit into the cache, at least one."
function images_per_micro_batch(sizes, T)
    values_of_image(size) = prod(size[1:3])
    pairs = zip(sizes, Iterators.drop(sizes, 1))
    largest = maximum(((input, output),) -> values_of_image(input) + values_of_image(output), pairs; init=1)
    return max(1, MICRO_BATCH_BYTES ÷ (largest * sizeof(T)))
end

"The maps after some groups. Their input is released."
function group_maps(groups, maps, workspace)
    for group in groups
        block_input = maps
        for unit in group
            next = frozen_maps(unit, maps, block_input, workspace)
            maps === block_input || release!(workspace, maps)
            maps = next
        end
        release!(workspace, block_input)
    end
    return maps
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
