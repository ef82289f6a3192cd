# A 1x1 convolution of stride 1 is a product of matrices over all pixels of the batch. Each thread takes
# its share of the pixels tile by tile, and what comes next is done to a tile while it is in the cache.
# BLAS is called by name: `mul!` would bring its fallbacks for all kinds of matrices, which take long to
# compile.

struct Pointwise end

"Pixels of a tile, and the fewest that are worth a thread."
const TILE, LEAST_PIXELS = 256, 32

tiles(range) = Iterators.partition(range, TILE)

"The weight (1, 1, I, O) as (I, O)."
channel_matrix(weight::Array{T,4}) where {T} = reshape(weight, size(weight, 3), size(weight, 4))

output_dims(::Pointwise, x, weight) = (size(weight, 4), size(x, 2), size(x, 3), size(x, 4))

"""
    convolve!(finish, y, x, weight, conv, room)

The convolution of `x` (C, W, H, N) with `weight` (K, K, I/groups, O), written into `y`. `finish(part,
range)` is called for each range of `pixels(y)` when it is done, by part `part` of the work.
"""
function convolve!(finish::F, y::Array{T,4}, x::Array{T,4}, weight, ::Pointwise, room) where {F,T}
    matrix, from, to = channel_matrix(weight), pixels(x), pixels(y)
    one_blas_thread() do
        parallel(size(to, 2), LEAST_PIXELS) do part, range
            for tile in tiles(range)
                mix!(view(to, :, tile), matrix, view(from, :, tile))
                finish(part, tile)
            end
        end
    end
    return y
end

"Pixels up to which products with vectors are faster: `gemm!` copies the whole matrix first."
const FEW = 4

"`y = matrix' * x`"
function mix!(y, matrix::Matrix{T}, x) where {T}
    size(x, 2) > FEW && return BLAS.gemm!('T', 'N', one(T), matrix, x, zero(T), y)
    for (into, pixel) in zip(eachcol(y), eachcol(x))
        BLAS.gemv!('T', one(T), matrix, pixel, zero(T), into)
    end
    return y
end

"In how many parts `convolve!` does its work."
convolve_parts(::Pointwise, y) = part_count(size(y, 2) * size(y, 3) * size(y, 4), LEAST_PIXELS)

"""
    convolve_gradients!(dx, dweight, slopes, x, weight, conv, room)

The gradients of `x` and `weight`, written into `dx` and `dweight`. `slopes(channel, k)` is the gradient of
the `k`th value of the convolution's output, which is of channel `channel`.
"""
function convolve_gradients!(
    dx, dweight, slopes::F, x::Array{T,4}, weight, conv::Pointwise, room
) where {F,T}
    matrix, from, to = channel_matrix(weight), pixels(x), pixels(dx)
    parts = part_count(size(to, 2), LEAST_PIXELS)
    sums = [part == 1 ? channel_matrix(dweight) : array(room, T, size(matrix)...) for part in 1:parts]
    buffers = [array(room, T, size(matrix, 2), TILE) for _ in 1:parts]
    one_blas_thread() do
        parallel(size(to, 2), LEAST_PIXELS) do part, range
            for tile in tiles(range)
                dy = view(buffers[part], :, 1:length(tile))
                fill_slopes!(dy, slopes, tile)
                BLAS.gemm!('N', 'N', one(T), matrix, dy, zero(T), view(to, :, tile))
                kept = T(first(tile) != first(range))
                BLAS.gemm!('N', 'T', one(T), view(from, :, tile), dy, kept, sums[part])
            end
        end
    end
    add_up!(sums)
    foreach(unused -> release!(room, unused), (sums..., buffers...))
    return nothing
end

"The slopes of a range of pixels, as a matrix (O, pixels)."
function fill_slopes!(dy, slopes::F, range) where {F}
    channels = size(dy, 1)
    @inbounds for (column, pixel) in enumerate(range)
        offset = (pixel - 1) * channels
        @simd ivdep for c in 1:channels
            dy[c, column] = slopes(c, offset + c)
        end
    end
    return dy
end

"The first of `sums` becomes the sum of all."
function add_up!(sums)
    total = first(sums)
    length(sums) == 1 && return total
    parallel(length(total), 2^14) do _, range
        for other in Iterators.drop(sums, 1)
            @inbounds @simd ivdep for k in range
                total[k] += other[k]
            end
        end
    end
    return total
end
