# A depthwise convolution (cross-correlation, as in torch), some channels of one image at a time: they are
# copied into the lanes of a buffer with zeros around, and one loop over the K*K taps makes each pixel of
# the output. The gradient of the input is the same loop with the taps reversed. A buffer has as many lanes
# as its type says, whatever the number of channels, so that the innermost loops have a fixed length.

struct Depthwise
    kernel::Int
    stride::Int
    padding::NTuple{2,Int}
end

"Lanes of the buffers: few for narrow maps, which would leave the others empty."
lanes_for(channels) = channels <= 8 ? Val(8) : Val(16)

"Pixels whose products are summed in the type of the maps, rounded up to whole images."
const SUMMED = 64

function output_dims((; kernel, stride, padding)::Union{Depthwise,Dense}, x, outputs)
    side(pixels) = output_size(pixels, kernel, stride, padding)
    return outputs, side(size(x, 2)), side(size(x, 3)), size(x, 4)
end

convolve_parts(::Union{Depthwise,Dense}, y, _) = part_count(size(y, 4))

"The channels from `first` on that lie in the `L` lanes of a buffer, of one image of maps (C, W, H, N)."
struct LaneBlock{L}
    image::Int
    first::Int
    count::Int
end
lane_block(image, number, channels, ::Val{L}) where {L} =
    LaneBlock{L}(image, L * (number - 1) + 1, min(L, channels - L * (number - 1)))

number(block::LaneBlock{L}) where {L} = cld(block.first, L)
block_count(channels, ::Val{L}) where {L} = cld(channels, L)

"Where pixel `number` (from 0) of a block begins in maps of `size`: the index before its first channel."
offset(block, (channels, width, height), number) =
    ((block.image - 1) * width * height + number) * channels + block.first - 1

prepared(::Depthwise, weight, room) = lane_taps(weight, lanes_for(size(weight, 4)), room)

function convolve!(finish::F, y, x, taps, conv::Depthwise, room) where {F}
    return depthwise!(finish, y, x, taps, conv, Val(conv.kernel), lanes_for(size(x, 1)), room)
end

function depthwise!(
    finish::F, y::Array{T,4}, x::Array{T,4}, taps::Array{T,4}, conv, kernel, lanes, room
) where {F,T}
    buffers = [padded(room, x, conv.padding, lanes) for _ in 1:convolve_parts(conv, y, taps)]
    channels, per_image = size(x, 1), size(y, 2) * size(y, 3)
    parallel(size(y, 4)) do part, images
        for image in images
            for number in 1:block_count(channels, lanes)
                block = lane_block(image, number, channels, lanes)
                load!(values_of(x), buffers[part], block, size(x), first(conv.padding), 1)
                correlate!(y, block, buffers[part], taps, conv.stride, kernel)
            end
            finish(part, ((image - 1) * per_image + 1):(image * per_image))
        end
    end
    foreach(unused -> release!(room, unused), buffers)
    return y
end

values_of(x) = (_, k) -> @inbounds x[k]

function convolve_gradients!(dx, dweight, slopes::F, x, weight, conv::Depthwise, room) where {F}
    kernel, lanes = Val(conv.kernel), lanes_for(size(x, 1))
    return depthwise_gradients!(dx, dweight, slopes, x, weight, conv, kernel, lanes, room)
end

function depthwise_gradients!(
    dx, dweight, slopes::F, x::Array{T,4}, weight, conv, kernel::Val{K}, lanes::Val{L}, room
) where {F,T,K,L}
    (; stride, padding) = conv
    shape, channels = output_dims(conv, x, size(x, 1)), size(x, 1)
    margin = K - 1 - first(padding)
    taps = lane_taps(reverse(weight; dims=(1, 2)), lanes, room)
    parts = part_count(size(x, 4))
    inputs = [padded(room, x, padding, lanes) for _ in 1:parts]
    outputs = [padded(room, x, (K - 1, 0), lanes) for _ in 1:parts]
    sums = [fill!(array(room, Float64, size(taps)...), 0) for _ in 1:parts]
    partials = [array(room, T, L, K, K) for _ in 1:parts]
    at_once = cld(SUMMED, shape[2] * shape[3])
    parallel(size(x, 4)) do part, images
        input, output, partial = inputs[part], outputs[part], partials[part]
        for some in Iterators.partition(images, at_once), number in 1:block_count(channels, lanes)
            fill!(partial, 0)
            for image in some
                block = lane_block(image, number, channels, lanes)
                load!(values_of(x), input, block, size(x), first(padding), 1)
                load!(slopes, output, block, shape, margin, stride)
                correlate!(dx, block, output, taps, 1, kernel)
                add_products!(partial, output, input, shape, margin, stride, kernel, lanes)
            end
            view(sums[part], :, :, :, number) .+= partial
        end
    end
    total = add_up!(sums)
    for c in axes(weight, 4), j in 1:K, i in 1:K
        dweight[i, j, 1, c] = total[mod1(c, L), i, j, cld(c, L)]
    end
    foreach(unused -> release!(room, unused), (taps, inputs..., outputs..., sums..., partials...))
    return nothing
end

"The weight (K, K, 1, C) as (lanes, K, K, blocks of channels)."
function lane_taps(weight::Array{T,4}, lanes::Val{L}, room) where {T,L}
    kernel, channels = size(weight, 1), size(weight, 4)
    taps = fill!(array(room, T, L, kernel, kernel, block_count(channels, lanes)), 0)
    for c in 1:channels, j in 1:kernel, i in 1:kernel
        taps[mod1(c, L), i, j, cld(c, L)] = weight[i, j, 1, c]
    end
    return taps
end

"Zeros for the lanes of an image of `x` with `padding` around it."
function padded(room, x::Array{T,4}, padding, ::Val{L}) where {T,L}
    width, height = (size(x, 2), size(x, 3)) .+ sum(padding)
    return fill!(array(room, T, L, width, height), 0)
end

"""
Copy a block of maps of `shape`, whose value at `k`, of channel `c`, is `source(c, k)`, into `buffer` from
pixel `margin` on, its pixels `stride` apart; what lies between stays as it was.
"""
function load!(source::F, buffer, block::LaneBlock{L}, shape, margin, stride) where {F,L}
    before = block.first - 1
    for row in 0:(shape[3] - 1), column in 0:(shape[2] - 1)
        from = offset(block, shape, row * shape[2] + column)
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

"Write the block of `y` that `taps` make of `buffer`."
function correlate!(y, block::LaneBlock{L}, buffer, taps, stride, ::Val{K}) where {L,K}
    base = (number(block) - 1) * L * K * K
    row_length = L * size(buffer, 2)
    for row in 0:(size(y, 3) - 1), column in 0:(size(y, 2) - 1)
        to = offset(block, size(y), row * size(y, 2) + column)
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
Add to `sums` (lanes, K, K) the products of `output`, whose maps of `shape` begin at `margin` and have their
pixels `stride` apart, and `input` under each tap.
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
