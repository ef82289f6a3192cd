# Checks of the arguments of the public functions.

"""
`x` as an `Array{T,4}`. Throws a `DataError` unless it is (W, H, C, N), of the element type of the model, finite, and
large enough that every feature map has a pixel.
"""
function checked_images(model::MobileNet{T}, x) where {T}
    channels = model.config.in_channels
    if !(x isa AbstractArray) || ndims(x) != 4 || size(x, 3) != channels
        throw(DataError("images must be an array (W, H, $channels, N). Received: $(array_summary(x))"))
    end
    isempty(x) && throw(DataError("images must not be empty. Received: size $(size(x))"))
    if eltype(x) !== T
        throw(DataError(
            "images must be $T, the model's type: scale them with `normalise_images`, or convert " *
            "them. Received: $(eltype(x))",
        ))
    end
    if !mapreduce(isfinite, &, x) # `all` stops early, but is not vectorised
        position = findfirst(!isfinite, x)
        throw(DataError(
            "images must be finite. Received: $(x[position]) at $(collect(Tuple(position)))"
        ))
    end
    width, height = size(x)[1:2]
    if 0 in last_map_size(model, width, height)
        throw(DataError(
            "images must be large enough for a last map of at least one pixel. " *
            "Received: $(width)x$(height) pixels"
        ))
    end
    return convert(Array{T,4}, x)
end

"""
`labels` as a `Vector{Int}` of class numbers in [0, classes), or, if it is a matrix of floats, as a `Matrix{T}`
(classes, N) of distributions. Throws a `DataError` for any other value.
"""
checked_labels(model::MobileNet, labels, count) =
    labels isa AbstractMatrix{<:AbstractFloat} ? checked_distributions(model, labels, count) :
    checked_classes(model, labels, count)

function checked_classes(model::MobileNet{T}, labels, count) where {T}
    classes = model.config.num_classes
    if !(labels isa AbstractVector{<:Integer}) || length(labels) != count
        throw(DataError(
            "labels must be $count integers, one for each image, or $T distributions ($classes, $count). " *
            "Received: $(array_summary(labels))",
        ))
    end
    position = findfirst(label -> !(0 <= label < classes), labels)
    isnothing(position) || throw(DataError(
        "labels must be in [0, $classes). Received: $(labels[position]) at [$position]"
    ))
    return convert(Vector{Int}, labels)
end

"Tolerance of the sum of a distribution, which should be 1: a Float32 softmax has an error of about 1e-7."
const SUM_TOLERANCE = 1e-5

function checked_distributions(model::MobileNet{T}, targets, count) where {T}
    shape = (model.config.num_classes, count)
    if size(targets) != shape || eltype(targets) !== T
        throw(DataError(
            "labels that are distributions must be $T $shape. Received: $(array_summary(targets))"
        ))
    end
    position = findfirst(target -> !(target >= 0), targets)
    isnothing(position) || throw(DataError(
        "labels must not be negative. Received: $(targets[position]) at $(collect(Tuple(position)))"
    ))
    sums = [sum(Float64, column) for column in eachcol(targets)]
    position = findfirst(total -> !(abs(total - 1) <= SUM_TOLERANCE), sums)
    isnothing(position) || throw(DataError(
        "each column of labels must sum to 1, within $SUM_TOLERANCE. Received: $(sums[position]) at [$position]"
    ))
    return convert(Matrix{T}, targets)
end

"A norm requires two values per channel for a variance; torch throws an error, Flux returns NaN."
function check_trainable(model::MobileNet, x)
    columns, rows = last_map_size(model, size(x, 1), size(x, 2))
    size(x, 4) * rows * columns >= 2 || throw(DataError(
        "training needs at least two values per channel in every norm: a larger batch or larger " *
        "images. Received: batch $(size(x, 4)) with a last map of $(columns)x$(rows)",
    ))
    return nothing
end

"`masks` as a `Dict` of arrays, or `nothing`. Throws a `DataError` for names, sizes, types or values that do not fit."
checked_masks(model::MobileNet, masks, x) =
    checked_masks(eltype(model), masks, isnothing(masks) ? nothing : mask_sizes(model.config, x), model.config)

"The same for given sizes, name => size, and dropout factors of type `T`."
function checked_masks(::Type{T}, masks, sizes, config::MobileNetConfig) where {T}
    isnothing(masks) && return nothing
    checked = Dict{String,Array}()
    for (name, mask) in masks
        type = name == DROPOUT ? T : UInt8
        shape = get(sizes, name, "(no such activation)")
        if !(mask isa AbstractArray) || size(mask) != shape || eltype(mask) !== type
            throw(DataError(
                "masks[$(repr(name))] must be $type $shape. Received: $(array_summary(mask))"
            ))
        end
        check_mask_values(name, mask, config.activation == "relu6" ? 2 : 1)
        checked[name] = convert(Array{type,ndims(mask)}, mask)
    end
    return checked
end

function check_mask_values(name, mask, largest)
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

"Name => size of all masks for images `x` (W, H, C, N)."
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

array_summary(array::AbstractArray) = "$(eltype(array)) array of size $(size(array))"
array_summary(value) = string(typeof(value))
