# A convolution with one group and any kernel, the stem's, by im2col: the K*K*I values under the taps of a pixel
# become a column, for some rows of an image at a time, and the convolution is a matrix product.

struct DenseConv
    kernel::Int
    stride::Int
    padding::NTuple{2,Int}
end

"Output pixels in an im2col matrix, rounded to whole rows."
const IM2COL_PIXELS = 1024

prepare_weight(::DenseConv, weight, workspace) = tap_matrix(weight)

function convolve!(
    epilogue::F, y::Array{T,4}, x::Array{T,4}, matrix::Matrix{T}, conv::DenseConv, workspace
) where {F,T}
    to = pixels(y)
    columns, rows, images = size(y, 2), size(y, 3), size(y, 4)
    buffers = [im2col_buffers(workspace, x, conv, columns) for _ in 1:conv_chunk_count(conv, y, matrix)]
    with_one_blas_thread() do
        parallel(images) do chunk, range
            each_im2col(buffers[chunk], x, range, conv, columns, rows) do pixel_range, patches
                BLAS.gemm!('T', 'N', one(T), matrix, patches, zero(T), view(to, :, pixel_range))
                epilogue(chunk, pixel_range)
            end
        end
    end
    foreach(buffer -> foreach(array -> release!(workspace, array), buffer), buffers)
    return y
end

"The gradient of `x` is omitted if `dx` is `nothing`."
function convolve_gradients!(
    dx, dweight, activation_gradient::F, x::Array{T,4}, weight, conv::DenseConv, workspace
) where {F,T}
    matrix = tap_matrix(weight)
    outputs, columns, rows, images = output_dims(conv, x, size(weight, 4))
    buffers = [im2col_buffers(workspace, x, conv, columns) for _ in 1:chunk_count(images)]
    gradients = [allocate(workspace, T, outputs, size(buffer.patches, 2)) for buffer in buffers]
    sums = [fill!(allocate(workspace, T, size(matrix)...), 0) for _ in buffers]
    with_one_blas_thread() do
        parallel(images) do chunk, range
            each_im2col(buffers[chunk], x, range, conv, columns, rows) do pixel_range, patches
                dy = view(gradients[chunk], :, 1:length(pixel_range))
                fill_activation_gradient!(dy, activation_gradient, pixel_range)
                BLAS.gemm!('N', 'T', one(T), patches, dy, one(T), sums[chunk])
            end
        end
    end
    copyto!(dweight, from_tap_matrix(sum_into_first!(sums), size(weight)))
    isnothing(dx) || dense_input_gradient!(dx, activation_gradient, weight, conv)
    foreach(buffer -> foreach(array -> release!(workspace, array), buffer), buffers)
    foreach(array -> release!(workspace, array), (gradients..., sums...))
    return nothing
end

"Call `f(pixel_range, patches)` for some rows of the output of each image: their pixels, and their im2col matrix."
function each_im2col(f::F, (; image, patches), x, range, conv, columns, rows) where {F}
    for number in range
        copy_padded_image!(image, x, number, first(conv.padding))
        for chunk_rows in row_chunks(columns, rows)
            im2col!(patches, image, chunk_rows, columns, conv.stride, conv.kernel)
            pixel_range = output_pixel_range(number, chunk_rows, columns, rows)
            f(pixel_range, view(patches, :, 1:length(pixel_range)))
        end
    end
end

"The gradient of `x`: the weight times the activation gradient of each image, added at the positions of the taps."
function dense_input_gradient!(dx::Array{T,4}, activation_gradient::F, weight, conv) where {F,T}
    (; kernel) = conv
    matrix = tap_matrix(weight)
    outputs, columns, rows, images = output_dims(conv, dx, size(weight, 4))
    dy = Matrix{T}(undef, outputs, columns * rows)
    image = zeros(T, size(dx, 1), ((size(dx, 2), size(dx, 3)) .+ sum(conv.padding))...)
    inside = (first(conv.padding) .+ axes(dx, 2), first(conv.padding) .+ axes(dx, 3))
    for number in 1:images
        fill_activation_gradient!(
            dy, activation_gradient, output_pixel_range(number, 0:(rows - 1), columns, rows)
        )
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

"The weight (K, K, I, O) as a matrix (I*K*K, O), in the order of an im2col column."
tap_matrix(weight) = reshape(permutedims(weight, (3, 1, 2, 4)), :, size(weight, 4))

"The inverse of `tap_matrix`."
function from_tap_matrix(matrix, (width, height, inputs, outputs))
    return permutedims(reshape(matrix, inputs, width, height, outputs), (2, 3, 1, 4))
end

"Ranges of rows, counted from 0, of about IM2COL_PIXELS pixels."
row_chunks(columns, rows) = Iterators.partition(0:(rows - 1), max(1, IM2COL_PIXELS ÷ columns))

"The pixels of rows of an output image, counted over the whole batch."
output_pixel_range(image, image_rows, columns, rows) =
    (((image - 1) * rows + first(image_rows)) * columns + 1):(((image - 1) * rows + last(image_rows) + 1) * columns)

"Buffers for a padded image of `x`, filled with zeros, and for its im2col matrix."
function im2col_buffers(workspace, x::Array{T,4}, conv, columns) where {T}
    image = allocate(workspace, T, size(x, 1), ((size(x, 2), size(x, 3)) .+ sum(conv.padding))...)
    patches = allocate(workspace, T, size(x, 1) * conv.kernel^2, columns * max(1, IM2COL_PIXELS ÷ columns))
    return (; image=fill!(image, 0), patches)
end

"Copy image `number` of `x` into the inside of a padded image."
function copy_padded_image!(image, x, number, margin)
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

"Write the K*K*I values under the taps of each pixel of the output's `rows` into the columns of `patches`."
function im2col!(patches, image, rows, columns, stride, kernel)
    channels, width = size(image, 1), size(image, 2)
    run = channels * kernel # the values under a row of taps are contiguous
    to = 0
    @inbounds for row in rows, column in 0:(columns - 1), j in 0:(kernel - 1)
        from = channels * ((stride * row + j) * width + stride * column)
        @simd ivdep for k in 1:run
            patches[to + k] = image[from + k]
        end
        to += run
    end
end
