# The fast kernels use maps (C, W, H, N): the channels of a pixel are contiguous, so that a 1x1 convolution of a
# batch is one matrix product. All public functions use (W, H, C, N).

"Maps (C, W, H, N) as a matrix (C, W*H*N) of pixels."
pixels(maps::Array{T,4}) where {T} = reshape(maps, size(maps, 1), :)

"""
    image_range(maps, images)

The images `images` of an array whose last axis counts images, without a copy: `maps` must outlive the result.
"""
function image_range(maps::Array{T,4}, images) where {T}
    images ⊆ axes(maps, 4) || throw(BoundsError(maps, (:, :, :, images)))
    address = pointer(maps, stride(maps, 4) * (first(images) - 1) + 1)
    return unsafe_wrap(Array, address, (size(maps)[1:3]..., length(images)))
end

"""
    to_channels_last(maps, workspace=AllocatingWorkspace())

Maps (W, H, C, N) as maps (C, W, H, N). Axes are in column-major order, the first one varies fastest: in memory
the result has torch's `channels_last` layout (N, H, W, C).
"""
function to_channels_last(maps::Array{T,4}, workspace=AllocatingWorkspace()) where {T}
    width, height, channels, images = size(maps)
    return transpose_images!(allocate(workspace, T, channels, width, height, images), maps, width * height)
end

"""
    from_channels_last(maps)

Maps (C, W, H, N), torch's `channels_last` layout in memory, as a new array (W, H, C, N), torch's contiguous
layout (N, C, H, W).
"""
function from_channels_last(maps::Array{T,4}) where {T}
    channels, width, height, images = size(maps)
    return transpose_images!(Array{T}(undef, width, height, channels, images), maps, channels)
end

"Each image of `from`, as a matrix of `rows` rows, transposed into `to`."
function transpose_images!(to, from, rows)
    shape = (rows, :, size(from, 4))
    source = reshape(from, shape)
    target = reshape(to, size(source, 2), rows, size(from, 4))
    parallel(size(from, 4)) do _, images
        for image in images
            @inbounds for i in axes(source, 1)
                @simd ivdep for j in axes(source, 2)
                    target[j, i, image] = source[i, j, image]
                end
            end
        end
    end
    return to
end
