# A 1x1 convolution of stride 1 is a matrix product over all pixels of the batch. Each thread computes its range of
# pixels in tiles, and the epilogue is applied to a tile while it is in the cache. With few pixels, as in a single
# small image, each thread computes a range of the output channels instead.

struct PointwiseConv end

"Pixels of a tile, and the least number of pixels for which another thread pays off."
const TILE_PIXELS, MIN_PIXELS_PER_THREAD = 256, 32

"The number of pixels up to which dot products are faster than panels, for which the whole matrix is packed first."
const FEW_PIXELS = 16

"The least number of elements for which another thread pays off, in an elementwise operation."
const MIN_ELEMENTS_PER_THREAD = 2^14

tiles(range) = Iterators.partition(range, TILE_PIXELS)

"The weight (1, 1, I, O) as a matrix (I, O)."
channel_matrix(weight::Array{T,4}) where {T} = reshape(weight, size(weight, 3), size(weight, 4))

"Size (O, W, H, N) of the output of a convolution of maps (C, W, H, N), from their size or from the maps themselves."
output_dims(conv, x::Array, outputs) = output_dims(conv, size(x), outputs)
output_dims(::PointwiseConv, (_, width, height, images)::Dims{4}, outputs) = (outputs, width, height, images)

"""
    prepare_weight(conv, weight, workspace)

`weight` (K, K, I/groups, O) in the layout that the kernel of `conv` reads.
"""
prepare_weight(::PointwiseConv, weight, workspace) = channel_matrix(weight)

"""
    convolve!(epilogue, y, x, weight, conv, workspace)

The convolution of `x` (C, W, H, N) with a weight from [`prepare_weight`](@ref), written into `y`.
`epilogue(chunk, range)` is called for each range of `pixels(y)` once it is complete, by chunk `chunk` of the work.
"""
function convolve!(
    epilogue::F, y::Array{T,4}, x::Array{T,4}, matrix::Matrix{T}, ::PointwiseConv, workspace
) where {F,T}
    from, to = pixels(x), pixels(y)
    if size(to, 2) <= FEW_PIXELS
        parallel(size(to, 1), min_items_per_thread(length(from))) do _, outputs
            multiply_few_pixels!(to, matrix, from, outputs)
        end
        epilogue(1, 1:size(to, 2))
        return y
    end
    panels = pack_panels(matrix, workspace)
    parallel(size(to, 2), min_pixels_per_thread(matrix)) do chunk, range
        for tile in tiles(range)
            multiply_panels!(to, panels, from, pixel_taps(from, tile), identity, tile, axes(panels.weight, 2))
            epilogue(chunk, tile)
        end
    end
    release!(workspace, panels)
    return y
end

"All channels of the pixels from the first of `range` on, of maps (C, pixels)."
pixel_taps(maps, range) = TapLayout(1, size(maps, 1), 0, (first(range) - 1) * size(maps, 1), size(maps, 1))

"The rows `outputs` of `y = matrix' * x`, four pixels at a time and the remaining ones singly."
function multiply_few_pixels!(y, matrix, x, outputs)
    blocks = size(x, 2) ÷ 4
    for o in outputs
        for block in 0:(blocks - 1)
            multiply_pixels!(y, matrix, x, o, 4block, Val(4))
        end
        for pixel in (4blocks):(size(x, 2) - 1)
            multiply_pixels!(y, matrix, x, o, pixel, Val(1))
        end
    end
end

"Output `o` of one pixel, or of four, that follow the first `before` pixels."
function multiply_pixels!(y, matrix::Matrix{T}, x, o, before, ::Val{1}) where {T}
    total = zero(T)
    @inbounds @simd for c in axes(matrix, 1)
        total = muladd(matrix[c, o], x[c, before + 1], total)
    end
    return @inbounds y[o, before + 1] = total
end
function multiply_pixels!(y, matrix::Matrix{T}, x, o, before, ::Val{4}) where {T}
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

"The number of chunks in which `convolve!` computes the pixels of `y`."
conv_chunk_count(::PointwiseConv, y, matrix) = chunk_count(length(y) ÷ size(y, 1), min_pixels_per_thread(matrix))

min_pixels_per_thread(matrix) = max(MIN_PIXELS_PER_THREAD, min_items_per_thread(length(matrix)))

"""
    convolve_gradients!(dx, dweight, activation_gradient, x, weight, conv, workspace)

The gradients of `x` and `weight`, written into `dx` and `dweight`. `activation_gradient(channel, k)` is the gradient
of the convolution's output at its `k`th value, in channel `channel`.
"""
function convolve_gradients!(
    dx, dweight, activation_gradient::F, x::Array{T,4}, weight, conv::PointwiseConv, workspace
) where {F,T}
    matrix, from, to = channel_matrix(weight), pixels(x), pixels(dx)
    chunks = chunk_count(size(to, 2), MIN_PIXELS_PER_THREAD)
    sums = [
        chunk == 1 ? channel_matrix(dweight) : allocate(workspace, T, size(matrix)...) for chunk in 1:chunks
    ]
    buffers = [allocate(workspace, T, size(matrix, 2), TILE_PIXELS) for _ in 1:chunks]
    panels = pack_panels(matrix, workspace; transposed=true)
    with_one_blas_thread() do
        parallel(size(to, 2), MIN_PIXELS_PER_THREAD) do chunk, range
            fill!(sums[chunk], 0)
            for tile in tiles(range)
                dy, taps = view(buffers[chunk], :, 1:length(tile)), pixel_taps(buffers[chunk], 1:1)
                fill_activation_gradient!(dy, activation_gradient, tile)
                multiply_panels!(to, panels, buffers[chunk], taps, identity, tile, axes(panels.weight, 2))
                add_outer_products!(sums[chunk], view(from, :, tile), dy)
            end
        end
    end
    sum_into_first!(sums)
    foreach(array -> release!(workspace, array), (sums..., buffers..., panels))
    return nothing
end

"The activation gradient at a range of pixels, as a matrix (O, pixels)."
function fill_activation_gradient!(dy, activation_gradient::F, range) where {F}
    channels = size(dy, 1)
    @inbounds for (column, pixel) in enumerate(range)
        offset = (pixel - 1) * channels
        @simd ivdep for c in 1:channels
            dy[c, column] = activation_gradient(c, offset + c)
        end
    end
    return dy
end

"The sum of `arrays`, written into the first of them."
function sum_into_first!(arrays)
    total = first(arrays)
    length(arrays) == 1 && return total
    parallel(length(total), MIN_ELEMENTS_PER_THREAD) do _, range
        for other in Iterators.drop(arrays, 1)
            @inbounds @simd ivdep for k in range
                total[k] += other[k]
            end
        end
    end
    return total
end
