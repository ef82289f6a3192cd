# A 1x1 convolution of stride 1 is a product of matrices over all pixels of the batch. Each thread takes
# its share of the pixels tile by tile, and what comes next is done to a tile while it is in the cache.
# Where there are only a few pixels, as in one small image, each thread takes its share of the output's
# channels instead. BLAS is called by name: `mul!` would bring its fallbacks for all kinds of matrices,
# which take long to compile.

struct Pointwise end

"Pixels of a tile, and the fewest that are worth a thread however many multiply-adds each takes."
const TILE, LEAST_PIXELS = 256, 32

"Pixels up to which sums of products are faster than `gemm!`, which copies the whole matrix first."
const FEW = 16

tiles(range) = Iterators.partition(range, TILE)

"The weight (1, 1, I, O) as (I, O)."
channel_matrix(weight::Array{T,4}) where {T} = reshape(weight, size(weight, 3), size(weight, 4))

output_dims(::Pointwise, x, outputs) = (outputs, size(x, 2), size(x, 3), size(x, 4))

"""
    prepared(conv, weight, room)

`weight` (K, K, I/groups, O) as the kernel of `conv` reads it.
"""
prepared(::Pointwise, weight, room) = channel_matrix(weight)

"""
    convolve!(finish, y, x, weight, conv, room)

The convolution of `x` (C, W, H, N) with a `prepared` weight, written into `y`. `finish(part, range)` is
called for each range of `pixels(y)` when it is done, by part `part` of the work.
"""
function convolve!(
    finish::F, y::Array{T,4}, x::Array{T,4}, matrix::Matrix{T}, ::Pointwise, room
) where {F,T}
    from, to = pixels(x), pixels(y)
    if size(to, 2) <= FEW
        parallel(size(to, 1), least_items(length(from))) do _, outputs
            mix_few!(to, matrix, from, outputs)
        end
        finish(1, 1:size(to, 2))
        return y
    end
    one_blas_thread() do
        parallel(size(to, 2), least_pixels(matrix)) do part, range
            for tile in tiles(range)
                BLAS.gemm!('T', 'N', one(T), matrix, view(from, :, tile), zero(T), view(to, :, tile))
                finish(part, tile)
            end
        end
    end
    return y
end

"Some rows, `outputs`, of `y = matrix' * x`: four pixels at a time, and what is left one by one."
function mix_few!(y, matrix, x, outputs)
    whole = size(x, 2) ÷ 4
    for o in outputs
        for block in 0:(whole - 1)
            mix_pixels!(y, matrix, x, o, 4block, Val(4))
        end
        for pixel in (4whole):(size(x, 2) - 1)
            mix_pixels!(y, matrix, x, o, pixel, Val(1))
        end
    end
end

"Channel `o` of the pixel after `before`, or of the four after it."
function mix_pixels!(y, matrix::Matrix{T}, x, o, before, ::Val{1}) where {T}
    total = zero(T)
    @inbounds @simd for c in axes(matrix, 1)
        total = muladd(matrix[c, o], x[c, before + 1], total)
    end
    return @inbounds y[o, before + 1] = total
end
function mix_pixels!(y, matrix::Matrix{T}, x, o, before, ::Val{4}) where {T}
    a = b = c = d = zero(T)
    @inbounds @simd for k in axes(matrix, 1)
        weight = matrix[k, o]
        a = muladd(weight, x[k, before + 1], a)
        b = muladd(weight, x[k, before + 2], b)
        c = muladd(weight, x[k, before + 3], c)
        d = muladd(weight, x[k, before + 4], d)
    end
    @inbounds y[o, before + 1], y[o, before + 2], y[o, before + 3], y[o, before + 4] = a, b, c, d
    return nothing
end

"In how many parts `convolve!` does its work on the pixels of `y`."
convolve_parts(::Pointwise, y, matrix) = part_count(length(y) ÷ size(y, 1), least_pixels(matrix))

least_pixels(matrix) = max(LEAST_PIXELS, least_items(length(matrix)))

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
