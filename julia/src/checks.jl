# What the public functions check before anything is computed.

"""
`x` as an `Array`, or a `DataError`: it must be (W, H, C, N), of the model's type, finite, and large enough
for a padding that does not make up for the kernel.
"""
function checked_images(model::MobileNet{T}, x) where {T}
    channels = model.config.in_channels
    if !(x isa AbstractArray) || ndims(x) != 4 || size(x, 3) != channels
        throw(DataError("images must be an array (W, H, $channels, N). Received: $(described(x))"))
    end
    isempty(x) && throw(DataError("images must not be empty. Received: size $(size(x))"))
    if eltype(x) !== T
        throw(DataError(
            "images must be $T, the model's type: normalise them with `normalise`, or convert " *
            "them. Received: $(eltype(x))",
        ))
    end
    if !mapreduce(isfinite, &, x) # `all` stops early, but takes the values one by one
        position = findfirst(!isfinite, x)
        throw(DataError(
            "images must be finite. Received: $(x[position]) at $(collect(Tuple(position)))"
        ))
    end
    width, height = size(x)[1:2]
    if 0 in last_map_size(model, width, height)
        throw(DataError(
            "images must leave a map to pool, at least one pixel. Received: $(width)x$(height) pixels"
        ))
    end
    return convert(Array{T,4}, x)
end

"""
`labels` as a `Vector{Int}`, one for each image, in [0, classes), or, where it has two axes, as a
`Matrix{T}` (classes, N), a distribution for each; else a `DataError`.
"""
checked_labels(model::MobileNet, labels, count) =
    labels isa AbstractMatrix{<:AbstractFloat} ? checked_targets(model, labels, count) :
    checked_classes(model, labels, count)

function checked_classes(model::MobileNet{T}, labels, count) where {T}
    classes = model.config.num_classes
    if !(labels isa AbstractVector{<:Integer}) || length(labels) != count
        throw(DataError(
            "labels must be $count integers, one for each image, or $T distributions ($classes, $count). " *
            "Received: $(described(labels))",
        ))
    end
    position = findfirst(label -> !(0 <= label < classes), labels)
    isnothing(position) || throw(DataError(
        "labels must be in [0, $classes). Received: $(labels[position]) at [$position]"
    ))
    return convert(Vector{Int}, labels)
end

"How far from 1 the sum of a distribution may be: a Float32 softmax rounds it by some 1e-7."
const SUM_WITHIN = 1e-5

function checked_targets(model::MobileNet{T}, targets, count) where {T}
    wanted = (model.config.num_classes, count)
    if size(targets) != wanted || eltype(targets) !== T
        throw(DataError(
            "labels that are distributions must be $T $wanted. Received: $(described(targets))"
        ))
    end
    position = findfirst(target -> !(target >= 0), targets)
    isnothing(position) || throw(DataError(
        "labels must not be negative. Received: $(targets[position]) at $(collect(Tuple(position)))"
    ))
    sums = [sum(Float64, column) for column in eachcol(targets)]
    position = findfirst(total -> !(abs(total - 1) <= SUM_WITHIN), sums)
    isnothing(position) || throw(DataError(
        "each column of labels must sum to 1, within $SUM_WITHIN. Received: $(sums[position]) at [$position]"
    ))
    return convert(Matrix{T}, targets)
end

"A norm needs two values a channel to have a variance; torch refuses, Flux gives NaN."
function check_trainable(model::MobileNet, x)
    columns, rows = last_map_size(model, size(x, 1), size(x, 2))
    size(x, 4) * rows * columns >= 2 || throw(DataError(
        "training needs at least two values per channel in every norm: a larger batch or larger " *
        "images. Received: batch $(size(x, 4)) with a last map of $(columns)x$(rows)",
    ))
    return nothing
end

"Check names, sizes, types and values of `masks` against the architecture."
function checked_masks(model::MobileNet{T}, masks, x) where {T}
    isnothing(masks) && return nothing
    sizes = mask_sizes(model.config, x)
    checked = Dict{String,Array}()
    for (name, mask) in masks
        type = name == DROPOUT ? T : UInt8
        wanted = get(sizes, name, "(no such activation)")
        if !(mask isa AbstractArray) || size(mask) != wanted || eltype(mask) !== type
            throw(DataError(
                "masks[$(repr(name))] must be $type $wanted. Received: $(described(mask))"
            ))
        end
        check_values(name, mask, model.config.activation == "relu6" ? 2 : 1)
        checked[name] = convert(Array{type,ndims(mask)}, mask)
    end
    return checked
end

function check_values(name, mask, largest)
    refuse(rule, received) =
        throw(DataError("masks[$(repr(name))] must be $rule. Received: $received"))
    if name == DROPOUT
        position = findfirst(!isfinite, mask)
        isnothing(position) || refuse("finite", mask[position])
    else
        maximum(mask) > largest && refuse("in 0..$largest", maximum(mask))
    end
    return nothing
end

function mask_sizes(config, x)
    width, height, _, count = size(x)
    sizes = Dict{String,Tuple{Vararg{Int}}}(DROPOUT => (feature_channels(config), count))
    for layer in layers(config)
        width, height = output_size(layer, width), output_size(layer, height)
        layer.activation || continue
        sizes["$(layer.name).act"] = (width, height, layer.out_channels, count)
    end
    return sizes
end

described(array::AbstractArray) = "$(eltype(array)) array of size $(size(array))"
described(value) = string(typeof(value))
