# A depthwise convolution (cross-correlation, as in torch), for one image at a time: its channels are copied, in blocks,
# into the lanes of a zero-padded buffer, where the lanes of a pixel are a vector, and the K*K taps of a block stay in
# registers for all of its pixels. The gradient of the input is the same loop with the taps reversed.

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
    kernel, stride, lanes = Val(conv.kernel), Val(conv.stride), lanes_for(size(x, 1))
    return depthwise!(epilogue, y, x, taps, conv, kernel, stride, lanes, workspace)
end

function depthwise!(
    epilogue::F, y::Array{T,4}, x::Array{T,4}, taps::Array{T,4}, conv, kernel, stride, lanes, workspace
) where {F,T}
    buffers = [padded_buffer(workspace, x, conv.padding, lanes) for _ in 1:conv_chunk_count(conv, y, taps)]
    channels, pixels_per_image = size(x, 1), size(y, 2) * size(y, 3)
    parallel(size(y, 4)) do chunk, images
        for image in images
            load_image!(values_of(x), buffers[chunk], image, size(x), first(conv.padding), 1, lanes)
            for number in 1:block_count(channels, lanes)
                correlate!(y, lane_block(image, number, channels, lanes), buffers[chunk], taps, stride, kernel)
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
    kernel, stride, lanes = Val(conv.kernel), Val(conv.stride), lanes_for(size(x, 1))
    return depthwise_gradients!(dx, dweight, activation_gradient, x, weight, conv, kernel, stride, lanes, workspace)
end

function depthwise_gradients!(
    dx, dweight, activation_gradient::F, x::Array{T,4}, weight, conv, kernel::Val{K}, stride::Val, lanes::Val{L},
    workspace,
) where {F,T,K,L}
    (; padding) = conv
    shape, channels = output_dims(conv, x, size(x, 1)), size(x, 1)
    margin = K - 1 - first(padding)
    taps = lane_taps(reverse(weight; dims=(1, 2)), lanes, workspace)
    chunks = chunk_count(size(x, 4))
    inputs = [padded_buffer(workspace, x, padding, lanes) for _ in 1:chunks]
    outputs = [padded_buffer(workspace, x, (K - 1, 0), lanes) for _ in 1:chunks]
    sums = [fill!(allocate(workspace, Float64, size(taps)...), 0) for _ in 1:chunks]
    partial_sums = [allocate(workspace, T, size(taps)...) for _ in 1:chunks]
    images_per_sum = cld(PIXELS_PER_PARTIAL_SUM, shape[2] * shape[3])
    parallel(size(x, 4)) do chunk, images
        input, output, partial_sum = inputs[chunk], outputs[chunk], partial_sums[chunk]
        for group in Iterators.partition(images, images_per_sum)
            fill!(partial_sum, 0)
            for image in group
                load_image!(values_of(x), input, image, size(x), first(padding), 1, lanes)
                load_image!(activation_gradient, output, image, shape, margin, conv.stride, lanes)
                for number in 1:block_count(channels, lanes)
                    correlate!(dx, lane_block(image, number, channels, lanes), output, taps, Val(1), kernel)
                    add_products!(partial_sum, output, input, number, shape, margin, stride, kernel, lanes)
                end
            end
            sums[chunk] .+= partial_sum
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

"Zeros for the lanes of an image of `x` with `padding` around it: (lanes, W, H, blocks of channels)."
function padded_buffer(workspace, x::Array{T,4}, padding, lanes::Val{L}) where {T,L}
    width, height = (size(x, 2), size(x, 3)) .+ sum(padding)
    return fill!(allocate(workspace, T, L, width, height, block_count(size(x, 1), lanes)), 0)
end

"""
Copy an image of maps of size `shape`, with the value `source(c, k)` at index `k` and channel `c`, into `buffer` from
pixel `margin` on, its pixels `stride` apart. The other pixels of the buffer stay as they are.
"""
function load_image!(
    source::F, buffer, image, (channels, columns, rows), margin, stride, ::Val{L}
) where {F,L}
    block_size, from = L * size(buffer, 2) * size(buffer, 3), (image - 1) * channels * columns * rows
    @inbounds for row in 0:(rows - 1), column in 0:(columns - 1)
        to = L * ((margin + stride * row) * size(buffer, 2) + margin + stride * column)
        for before in 0:L:(channels - L)
            @simd ivdep for lane in 1:L
                buffer[to + lane] = source(before + lane, from + before + lane)
            end
            to += block_size
        end
        before = channels - channels % L
        for lane in 1:(channels - before)
            buffer[to + lane] = source(before + lane, from + before + lane)
        end
        from += channels
    end
end

"Neighbouring output pixels that are computed together: they share most of the values under their taps."
const DEPTHWISE_BLOCK = 4

"Write the block of `y` that is the correlation of `buffer` with `taps`."
@generated function correlate!(
    y::Array{T}, block::LaneBlock{L}, buffer, taps, ::Val{S}, ::Val{K}
) where {T,L,S,K}
    V = Lanes{T,L}
    function pixels_from_column(count)
        return quote
            @nexprs $count p -> total_p = fill_lanes(zero(T), $V)
            @nexprs $K j -> begin
                from_j = from + (j - 1) * row_length * $(sizeof(V))
                @nexprs $(S * (count - 1) + K) v -> value_v = load_lanes($V, from_j + (v - 1) * $(sizeof(V)))
                @nexprs $K i -> @nexprs $count p -> total_p = muladd_lanes(tap_i_j, value_{$S * (p - 1) + i}, total_p)
            end
            @nexprs $count p -> store_lanes!(to + (p - 1) * pixel, total_p, block.count)
            column += $count
            from += $(count * S * sizeof(V))
            to += $count * pixel
        end
    end
    return quote
        columns, pixel, row_length = size(y, 2), size(y, 1) * sizeof(T), size(buffer, 2)
        GC.@preserve y buffer taps begin
            before = block_number(block) - 1
            first_tap = pointer(taps) + before * $(K * K * sizeof(V))
            lanes = pointer(buffer) + before * row_length * size(buffer, 3) * $(sizeof(V))
            @nexprs $K j -> @nexprs $K i -> tap_i_j = load_lanes($V, first_tap + ($K * (j - 1) + i - 1) * $(sizeof(V)))
            for row in 0:(size(y, 3) - 1)
                to = pointer(y, block_offset(block, size(y), row * columns) + 1)
                from = lanes + $S * row * row_length * $(sizeof(V))
                column = 0
                while column <= columns - DEPTHWISE_BLOCK
                    $(pixels_from_column(DEPTHWISE_BLOCK))
                end
                while column < columns
                    $(pixels_from_column(1))
                end
            end
        end
    end
end

"""
Add to block `number` of `sums` (lanes, K, K, blocks) the products of that block of `output`, whose maps of size `shape`
begin at pixel `margin` with their pixels `S` apart, and of the values of `input` under each tap.
"""
@generated function add_products!(
    sums::Array{T}, output, input, number, shape, margin, ::Val{S}, ::Val{K}, ::Val{L}
) where {T,S,K,L}
    V = Lanes{T,L}
    return quote
        _, columns, rows = shape
        GC.@preserve sums output input begin
            to = pointer(sums) + (number - 1) * $(K * K * sizeof(V))
            outputs = pointer(output) + (number - 1) * stride(output, 4) * sizeof(T)
            inputs = pointer(input) + (number - 1) * stride(input, 4) * sizeof(T)
            @nexprs $K j -> @nexprs $K i -> sum_i_j = load_lanes($V, to + ($K * (j - 1) + i - 1) * $(sizeof(V)))
            for row in 0:(rows - 1)
                gradients = outputs + ((margin + $S * row) * size(output, 2) + margin) * $(sizeof(V))
                @nexprs $K j -> from_j = inputs + ($S * row + j - 1) * size(input, 2) * $(sizeof(V))
                for column in 0:(columns - 1)
                    offset = $S * column * $(sizeof(V))
                    gradient = load_lanes($V, gradients + offset)
                    @nexprs $K j -> @nexprs $K i -> begin
                        value = load_lanes($V, from_j + offset + (i - 1) * $(sizeof(V)))
                        sum_i_j = muladd_lanes(gradient, value, sum_i_j)
                    end
                end
            end
            @nexprs $K j -> @nexprs $K i ->
                unsafe_store!(Ptr{$V}(to + ($K * (j - 1) + i - 1) * $(sizeof(V))), sum_i_j)
        end
        return sums
    end
end
