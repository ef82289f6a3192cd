# A 1x1 convolution of stride 1 is one product of matrices over all images, without im2col: the
# maps (W, H, C, N) are laid out as the matrix (W*H*N, C), a copy that costs far less than the product.

"The matrix (W*H*N, C) of the maps `x` (W, H, C, N)."
function pixel_matrix(x::Array{T,4}) where {T}
    pixels, channels, images = size(x, 1) * size(x, 2), size(x, 3), size(x, 4)
    matrix = Array{T}(undef, pixels * images, channels)
    parallel(channels) do range
        for channel in range, image in 1:images
            from = pixels * (channel - 1 + channels * (image - 1)) + 1
            to = pixels * (image - 1 + images * (channel - 1)) + 1
            copy_run!(matrix, to, x, from, pixels)
        end
    end
    return matrix
end

"The maps (W, H, C, N) of a matrix (W*H*N, C)."
function pixel_maps(matrix::Matrix{T}, width, height, images) where {T}
    pixels, channels = width * height, size(matrix, 2)
    x = Array{T}(undef, width, height, channels, images)
    parallel(images) do range
        for image in range, channel in 1:channels
            from = pixels * (image - 1 + images * (channel - 1)) + 1
            to = pixels * (channel - 1 + channels * (image - 1)) + 1
            copy_run!(x, to, matrix, from, pixels)
        end
    end
    return x
end

"`unsafe_copyto!` for runs that are often too short for its call."
@inline function copy_run!(to, first_to, from, first_from, count)
    @inbounds @simd ivdep for k in 0:(count - 1)
        to[first_to + k] = from[first_from + k]
    end
end

channel_matrix(weight::Array{T,4}) where {T} = reshape(weight, size(weight, 3), size(weight, 4))

"""
    pointwise(x, weight)

1x1 convolution of `x` (W, H, I, N) with `weight` (1, 1, I, O): (W, H, O, N).
"""
function pointwise(x::Array{T,4}, weight::Array{T,4}) where {T}
    width, height, _, images = size(x)
    return pixel_maps(pixel_matrix(x) * channel_matrix(weight), width, height, images)
end

function ChainRulesCore.rrule(::typeof(pointwise), x::Array{T,4}, weight::Array{T,4}) where {T}
    function pointwise_pullback(gradient)
        width, height, _, images = size(x)
        dy = pixel_matrix(unthunk(gradient))
        dx = pixel_maps(dy * channel_matrix(weight)', width, height, images)
        dweight = reshape(pixel_matrix(x)' * dy, size(weight))
        return NoTangent(), dx, dweight
    end
    return pointwise(x, weight), pointwise_pullback
end
