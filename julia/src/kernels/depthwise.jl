# A depthwise convolution (cross-correlation, as in torch), for a block of channels of one image at a time: they are
# copied into the lanes of a zero-padded buffer, and one loop over the K*K taps computes each output pixel. The
# gradient of the input is the same loop with the taps reversed. The number of lanes is part of the buffer's type,
# so that the innermost loops have a fixed length.

struct DepthwiseConv
    kernel::Int
    stride::Int
    padding::NTuple{2,Int}
end

"Lanes of the buffers: few for maps with few channels, which would leave the other lanes empty."
lanes_for(channels) = channels <= 8 ? Val(8) : Val(16)

"Pixels whose products are summed in the element type of the maps, rounded up to whole images."
const PIXELS_PER_PARTIAL_SUM = 64

function output_dims(
    (; kernel, stride, padding)::Union{DepthwiseConv,DenseConv}, (_, width, height, images)::Dims{4}, outputs
)
    side(pixels) = output_size(pixels, kernel, stride, padding)
    return outputs, side(width), side(height), images
end

conv_chunk_count(::Union{DepthwiseConv,DenseConv}, y, _) = chunk_count(size(y, 4))

"The `count` channels from `first` on in the `L` lanes of a buffer, of one image of maps (C, W, H, N)."
struct LaneBlock{L}
    image::Int
    first::Int
    count::Int
end
lane_block(image, number, channels, ::Val{L}) where {L} =
    LaneBlock{L}(image, L * (number - 1) + 1, min(L, channels - L * (number - 1)))

block_number(block::LaneBlock{L}) where {L} = cld(block.first, L)
block_count(channels, ::Val{L}) where {L} = cld(channels, L)

"The index before the first channel of a block at pixel `pixel` (from 0), in maps of the given size."
block_offset(block, (channels, width, height), pixel) =
    ((block.image - 1) * width * height + pixel) * channels + block.first - 1

prepare_weight(::DepthwiseConv, weight, workspace) = lane_taps(weight, lanes_for(size(weight, 4)), workspace)

function convolve!(epilogue::F, y, x, taps, conv::DepthwiseConv, workspace) where {F}
    return depthwise!(epilogue, y, x, taps, conv, Val(conv.kernel), lanes_for(size(x, 1)), workspace)
end

function depthwise!(
    epilogue::F, y::Array{T,4}, x::Array{T,4}, taps::Array{T,4}, conv, kernel, lanes, workspace
) where {F,T}
    buffers = [padded_buffer(workspace, x, conv.padding, lanes) for _ in 1:conv_chunk_count(conv, y, taps)]
    channels, pixels_per_image = size(x, 1), size(y, 2) * size(y, 3)
    parallel(size(y, 4)) do chunk, images
        for image in images
            for number in 1:block_count(channels, lanes)
                block = lane_block(image, number, channels, lanes)
                load_block!(values_of(x), buffers[chunk], block, size(x), first(conv.padding), 1)
                correlate!(y, block, buffers[chunk], taps, conv.stride, kernel)
            end
            epilogue(chunk, ((image - 1) * pixels_per_image + 1):(image * pixels_per_image))
        end
    end
    foreach(array -> release!(workspace, array), buffers)
    return y
end

values_of(x) = (_, k) -> @inbounds x[k]

function convolve_gradients!(
    dx, dweight, activation_gradient::F, x, weight, conv::DepthwiseConv, workspace
) where {F}
    kernel, lanes = Val(conv.kernel), lanes_for(size(x, 1))
    return depthwise_gradients!(dx, dweight, activation_gradient, x, weight, conv, kernel, lanes, workspace)
end

function depthwise_gradients!(
    dx, dweight, activation_gradient::F, x::Array{T,4}, weight, conv, kernel::Val{K}, lanes::Val{L}, workspace
) where {F,T,K,L}
    (; stride, padding) = conv
    shape, channels = output_dims(conv, x, size(x, 1)), size(x, 1)
    margin = K - 1 - first(padding)
    taps = lane_taps(reverse(weight; dims=(1, 2)), lanes, workspace)
    chunks = chunk_count(size(x, 4))
    inputs = [padded_buffer(workspace, x, padding, lanes) for _ in 1:chunks]
    outputs = [padded_buffer(workspace, x, (K - 1, 0), lanes) for _ in 1:chunks]
    sums = [fill!(allocate(workspace, Float64, size(taps)...), 0) for _ in 1:chunks]
    partial_sums = [allocate(workspace, T, L, K, K) for _ in 1:chunks]
    images_per_sum = cld(PIXELS_PER_PARTIAL_SUM, shape[2] * shape[3])
    parallel(size(x, 4)) do chunk, images
        input, output, partial_sum = inputs[chunk], outputs[chunk], partial_sums[chunk]
        for group in Iterators.partition(images, images_per_sum), number in 1:block_count(channels, lanes)
            fill!(partial_sum, 0)
            for image in group
                block = lane_block(image, number, channels, lanes)
                load_block!(values_of(x), input, block, size(x), first(padding), 1)
                load_block!(activation_gradient, output, block, shape, margin, stride)
                correlate!(dx, block, output, taps, 1, kernel)
                add_products!(partial_sum, output, input, shape, margin, stride, kernel, lanes)
            end
            view(sums[chunk], :, :, :, number) .+= partial_sum
        end
    end
    total = sum_into_first!(sums)
    for c in axes(weight, 4), j in 1:K, i in 1:K
        dweight[i, j, 1, c] = total[mod1(c, L), i, j, cld(c, L)]
    end
    foreach(
        array -> release!(workspace, array), (taps, inputs..., outputs..., sums..., partial_sums...)
    )
    return nothing
end

"The weight (K, K, 1, C) as (lanes, K, K, blocks of channels)."
function lane_taps(weight::Array{T,4}, lanes::Val{L}, workspace) where {T,L}
    kernel, channels = size(weight, 1), size(weight, 4)
    taps = fill!(allocate(workspace, T, L, kernel, kernel, block_count(channels, lanes)), 0)
    for c in 1:channels, j in 1:kernel, i in 1:kernel
        taps[mod1(c, L), i, j, cld(c, L)] = weight[i, j, 1, c]
    end
    return taps
end

"Zeros for the lanes of an image of `x` with `padding` around it."
function padded_buffer(workspace, x::Array{T,4}, padding, ::Val{L}) where {T,L}
    width, height = (size(x, 2), size(x, 3)) .+ sum(padding)
    return fill!(allocate(workspace, T, L, width, height), 0)
end

"""
Copy a block of maps of size `shape`, with the value `source(c, k)` at index `k` and channel `c`, into `buffer` from
pixel `margin` on, its pixels `stride` apart. The other pixels of the buffer stay as they are.
"""
function load_block!(source::F, buffer, block::LaneBlock{L}, shape, margin, stride) where {F,L}
    before = block.first - 1
    for row in 0:(shape[3] - 1), column in 0:(shape[2] - 1)
        from = block_offset(block, shape, row * shape[2] + column)
        to = L * ((margin + stride * row) * size(buffer, 2) + margin + stride * column)
        if block.count == L
            @inbounds @simd ivdep for lane in 1:L
                buffer[to + lane] = source(before + lane, from + lane)
            end
        else
            @inbounds for lane in 1:(block.count)
                buffer[to + lane] = source(before + lane, from + lane)
            end
        end
    end
end

"Write the block of `y` that is the correlation of `buffer` with `taps`."
function correlate!(y, block::LaneBlock{L}, buffer, taps, stride, ::Val{K}) where {L,K}
    base = (block_number(block) - 1) * L * K * K
    row_length = L * size(buffer, 2)
    for row in 0:(size(y, 3) - 1), column in 0:(size(y, 2) - 1)
        to = block_offset(block, size(y), row * size(y, 2) + column)
        from = stride * (row * row_length + column * L)
        if block.count == L
            @inbounds @simd ivdep for lane in 1:L
                y[to + lane] = tap_sum(buffer, from + lane, row_length, taps, base + lane, Val(K), L)
            end
        else
            @inbounds for lane in 1:(block.count)
                y[to + lane] = tap_sum(buffer, from + lane, row_length, taps, base + lane, Val(K), L)
            end
        end
    end
end

@inline function tap_sum(buffer::Array{T}, from, row_length, taps, first_tap, ::Val{K}, lanes) where {T,K}
    value = zero(T)
    @inbounds for j in 0:(K - 1), i in 0:(K - 1)
        value = muladd(
            taps[first_tap + lanes * (K * j + i)],
            buffer[from + row_length * j + lanes * i],
            value,
        )
    end
    return value
end

"""
Add to `sums` (lanes, K, K) the products of `output`, whose maps of size `shape` begin at pixel `margin` with their
pixels `stride` apart, and the values of `input` under each tap.
"""
function add_products!(
    sums, output, input, (_, columns, rows), margin, stride, ::Val{K}, ::Val{L}
) where {K,L}
    output_row, input_row = L * size(output, 2), L * size(input, 2)
    for row in 0:(rows - 1), j in 0:(K - 1), column in 0:(columns - 1)
        dy = (margin + stride * row) * output_row + (margin + stride * column) * L
        x = (stride * row + j) * input_row + stride * column * L
        @inbounds @simd ivdep for lane in 1:L
            for i in 0:(K - 1)
                at = L * (K * j + i) + lane
                sums[at] = muladd(output[dy + lane], input[x + L * i + lane], sums[at])
            end
        end
    end
    return sums
end
