# Any convolution of all channels: the stem's. What lies under the taps of a pixel becomes a column of
# K*K*I values, some rows of an image at a time, and the rest is a product of matrices.

struct Dense
    kernel::Int
    stride::Int
    padding::NTuple{2,Int}
end

"Pixels of the output that are gathered at a time, rounded to whole rows."
const GATHERED = 1024

prepared(::Dense, weight, room) = tap_matrix(weight)

function convolve!(
    finish::F, y::Array{T,4}, x::Array{T,4}, matrix::Matrix{T}, conv::Dense, room
) where {F,T}
    to = pixels(y)
    columns, rows, images = size(y, 2), size(y, 3), size(y, 4)
    works = [gathering(room, x, conv, columns) for _ in 1:convolve_parts(conv, y, matrix)]
    one_blas_thread() do
        parallel(images) do part, range
            each_gathered(works[part], x, range, conv, columns, rows) do done, under
                BLAS.gemm!('T', 'N', one(T), matrix, under, zero(T), view(to, :, done))
                finish(part, done)
            end
        end
    end
    foreach(work -> foreach(unused -> release!(room, unused), work), works)
    return y
end

"The gradient of `x` is left out where `dx` is `nothing`, as for images."
function convolve_gradients!(
    dx, dweight, slopes::F, x::Array{T,4}, weight, conv::Dense, room
) where {F,T}
    matrix = tap_matrix(weight)
    outputs, columns, rows, images = output_dims(conv, x, size(weight, 4))
    works = [gathering(room, x, conv, columns) for _ in 1:part_count(images)]
    buffers = [array(room, T, outputs, size(work.patches, 2)) for work in works]
    sums = [fill!(array(room, T, size(matrix)...), 0) for _ in works]
    one_blas_thread() do
        parallel(images) do part, range
            each_gathered(works[part], x, range, conv, columns, rows) do done, under
                dy = view(buffers[part], :, 1:length(done))
                fill_slopes!(dy, slopes, done)
                BLAS.gemm!('N', 'T', one(T), under, dy, one(T), sums[part])
            end
        end
    end
    copyto!(dweight, from_tap_matrix(add_up!(sums), size(weight)))
    isnothing(dx) || dense_input_gradient!(dx, slopes, weight, conv)
    foreach(work -> foreach(unused -> release!(room, unused), work), works)
    foreach(unused -> release!(room, unused), (buffers..., sums...))
    return nothing
end

"For some rows of an image at a time: their pixels, and the columns of values under their taps."
function each_gathered(f::F, (; image, patches), x, range, conv, columns, rows) where {F}
    for number in range
        fill_image!(image, x, number, first(conv.padding))
        for some in row_chunks(columns, rows)
            gather!(patches, image, some, columns, conv.stride, conv.kernel)
            done = pixel_range(number, some, columns, rows)
            f(done, view(patches, :, 1:length(done)))
        end
    end
end

"Each image's slopes times the weights, added where their taps lay."
function dense_input_gradient!(dx::Array{T,4}, slopes::F, weight, conv) where {F,T}
    (; kernel) = conv
    matrix = tap_matrix(weight)
    outputs, columns, rows, images = output_dims(conv, dx, size(weight, 4))
    dy = Matrix{T}(undef, outputs, columns * rows)
    image = zeros(T, size(dx, 1), ((size(dx, 2), size(dx, 3)) .+ sum(conv.padding))...)
    inside = (first(conv.padding) .+ axes(dx, 2), first(conv.padding) .+ axes(dx, 3))
    for number in 1:images
        fill_slopes!(dy, slopes, pixel_range(number, 0:(rows - 1), columns, rows))
        patches = reshape(
            BLAS.gemm('N', 'N', matrix, dy), size(dx, 1), kernel, kernel, columns, rows
        )
        fill!(image, 0)
        for j in 1:kernel, i in 1:kernel
            across = range(i; step=conv.stride, length=columns)
            down = range(j; step=conv.stride, length=rows)
            view(image, :, across, down) .+= view(patches, :, i, j, :, :)
        end
        dx[:, :, :, number] = view(image, :, inside...)
    end
    return dx
end

"The weight (K, K, I, O) as a matrix (I*K*K, O), the order of what is gathered; and back."
tap_matrix(weight) = reshape(permutedims(weight, (3, 1, 2, 4)), :, size(weight, 4))
function from_tap_matrix(matrix, (width, height, inputs, outputs))
    return permutedims(reshape(matrix, inputs, width, height, outputs), (2, 3, 1, 4))
end

"Ranges of rows, from 0, that have about GATHERED pixels."
row_chunks(columns, rows) = Iterators.partition(0:(rows - 1), max(1, GATHERED ÷ columns))

pixel_range(image, some, columns, rows) =
    (((image - 1) * rows + first(some)) * columns + 1):(((image - 1) * rows + last(some) + 1) * columns)

"Room for a padded image of `x`, zero at first, and for the columns gathered from it."
function gathering(room, x::Array{T,4}, conv, columns) where {T}
    image = array(room, T, size(x, 1), ((size(x, 2), size(x, 3)) .+ sum(conv.padding))...)
    patches = array(room, T, size(x, 1) * conv.kernel^2, columns * max(1, GATHERED ÷ columns))
    return (; image=fill!(image, 0), patches)
end

function fill_image!(image, x, number, margin)
    rows = size(x, 1) * size(x, 2)
    @inbounds for row in axes(x, 3)
        from = ((number - 1) * size(x, 3) + row - 1) * rows
        to = size(image, 1) * ((margin + row - 1) * size(image, 2) + margin)
        @simd ivdep for k in 1:rows
            image[to + k] = x[from + k]
        end
    end
    return image
end

"The columns of K*K*I values under the taps of each pixel of the output's rows `some`."
function gather!(patches, image, some, columns, stride, kernel)
    channels, width = size(image, 1), size(image, 2)
    run = channels * kernel # what lies under a row of taps is contiguous
    to = 0
    @inbounds for row in some, column in 0:(columns - 1), j in 0:(kernel - 1)
        from = channels * ((stride * row + j) * width + stride * column)
        @simd ivdep for k in 1:run
            patches[to + k] = image[from + k]
        end
        to += run
    end
end
