# A 1x1 convolution of stride 1 is a product of matrices, without im2col: each image's map is a matrix
# (W*H, C). Small maps are gathered into matrices of about ROWS rows, which BLAS likes better. BLAS is
# called by name: `mul!` would bring its fallbacks for all kinds of matrices, which take long to compile.

const ROWS = 256

"""
    pointwise(x, weight)

1x1 convolution of `x` (W, H, I, N) with `weight` (1, 1, I, O): (W, H, O, N).
"""
pointwise(x::Array{T,4}, weight::Array{T,4}) where {T} = mix_channels(x, channel_matrix(weight), 'N')

function ChainRulesCore.rrule(::typeof(pointwise), x::Array{T,4}, weight::Array{T,4}) where {T}
    function pointwise_pullback(gradient)
        dy = unthunk(gradient)
        dx = mix_channels(dy, channel_matrix(weight), 'T')
        return NoTangent(), dx, reshape(channel_products(x, dy), size(weight))
    end
    return pointwise(x, weight), pointwise_pullback
end

channel_matrix(weight::Array{T,4}) where {T} = reshape(weight, size(weight, 3), size(weight, 4))

"""
The maps (W, H, O, N) that `matrix` (I, O), or with `side` 'T' its transpose, makes of the channels of
`x` (W, H, I, N).
"""
function mix_channels(x::Array{T,4}, matrix::Matrix{T}, side::Char) where {T}
    y = Array{T}(undef, size(x, 1), size(x, 2), size(matrix, side == 'N' ? 2 : 1), size(x, 4))
    from, to, chunks = planes(x), planes(y), image_chunks(x)
    one_blas_thread() do
        parallel(length(chunks)) do range
            rows, mixed = chunk_buffer(from, chunks), chunk_buffer(to, chunks)
            for images in chunks[range]
                target = chunk_rows(mixed, to, images)
                BLAS.gemm!('N', side, one(T), gather!(rows, from, images), matrix, zero(T), target)
                scatter!(to, mixed, images)
            end
        end
    end
    return y
end

"The sum over all pixels of the products of channels: `x` (W, H, I, N), `dy` (W, H, O, N), (I, O)."
function channel_products(x::Array{T,4}, dy::Array{T,4}) where {T}
    products = zeros(T, size(x, 3), size(dy, 3))
    left, right, chunks = planes(x), planes(dy), image_chunks(x)
    one_blas_thread() do
        parallel(size(products, 2)) do range
            lefts, rights = chunk_buffer(left, chunks), chunk_buffer(right, chunks)
            for images in chunks
                ours = view(gather!(rights, right, images, range), :, range)
                target = view(products, :, range)
                BLAS.gemm!('T', 'N', one(T), gather!(lefts, left, images), ours, one(T), target)
            end
        end
    end
    return products
end

"Ranges of images whose maps together have about ROWS pixels."
function image_chunks(x)
    images = max(1, ROWS ÷ (size(x, 1) * size(x, 2)))
    return collect(Iterators.partition(1:size(x, 4), images))
end

"Room for the rows of one chunk of `maps` (W*H, C, N)."
function chunk_buffer(maps::Array{T,3}, chunks) where {T}
    rows = length(first(chunks)) == 1 ? 0 : size(maps, 1) * length(first(chunks))
    return Matrix{T}(undef, rows, size(maps, 2))
end

"The matrix of a chunk's rows: a part of the buffer, or the map itself where the chunk is one image."
function chunk_rows(buffer, maps, images)
    isempty(buffer) && return view(maps, :, :, only(images))
    return view(buffer, 1:(size(maps, 1) * length(images)), :)
end

function gather!(buffer, maps, images, channels=axes(maps, 2))
    isempty(buffer) || @inbounds for c in channels, (n, image) in enumerate(images)
        @simd ivdep for k in axes(maps, 1)
            buffer[(n - 1) * size(maps, 1) + k, c] = maps[k, c, image]
        end
    end
    return chunk_rows(buffer, maps, images)
end

function scatter!(maps, buffer, images)
    isempty(buffer) || @inbounds for (n, image) in enumerate(images), c in axes(maps, 2)
        @simd ivdep for k in axes(maps, 1)
            maps[k, c, image] = buffer[(n - 1) * size(maps, 1) + k, c]
        end
    end
end
