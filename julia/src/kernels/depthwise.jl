# A depthwise convolution (cross-correlation, as in torch), LANES channels of one image at a time: they
# are copied into a buffer with zeros around, and one loop over the K*K taps makes each pixel of the
# output. The gradient of the input is the same loop with the taps reversed. The buffers' first axis is
# LANES long whatever the number of channels, so that the innermost loops have a fixed length.

struct Depthwise
    stride::Int
    padding::NTuple{2,Int}
end

const LANES = 16

function output_dims(conv::Union{Depthwise,Dense}, x, weight)
    side(size_in) = output_size(size_in, size(weight, 1), conv.stride, conv.padding)
    return size(weight, 4), side(size(x, 2)), side(size(x, 3)), size(x, 4)
end

convolve_parts(::Union{Depthwise,Dense}, y) = part_count(size(y, 4))

"Channels from `first` on, at most LANES of them, of one image of maps (C, W, H, N)."
struct LaneBlock
    image::Int
    first::Int
    count::Int
end
lane_blocks(image, channels) =
    (LaneBlock(image, c, min(LANES, channels - c + 1)) for c in 1:LANES:channels)

"Where pixel `number` (from 0) of a block begins in maps of `size`: the index before its first channel."
offset(block, (channels, width, height), number) =
    ((block.image - 1) * width * height + number) * channels + block.first - 1

convolve!(finish::F, y, x, weight, conv::Depthwise, room) where {F} =
    depthwise!(finish, y, x, weight, conv, Val(size(weight, 1)), room)

function depthwise!(
    finish::F, y::Array{T,4}, x::Array{T,4}, weight, conv, ::Val{K}, room
) where {F,T,K}
    taps = lane_taps(weight, room)
    buffers = [padded(room, x, conv.padding) for _ in 1:convolve_parts(conv, y)]
    per_image = size(y, 2) * size(y, 3)
    parallel(size(y, 4)) do part, images
        buffer = buffers[part]
        for image in images
            for block in lane_blocks(image, size(x, 1))
                load!((_, k) -> @inbounds(x[k]), buffer, block, size(x), first(conv.padding), 1)
                correlate!(y, block, buffer, taps, conv.stride, Val(K))
            end
            finish(part, ((image - 1) * per_image + 1):(image * per_image))
        end
    end
    foreach(unused -> release!(room, unused), (taps, buffers...))
    return y
end

convolve_gradients!(dx, dweight, slopes::F, x, weight, conv::Depthwise, room) where {F} =
    depthwise_gradients!(dx, dweight, slopes, x, weight, conv, Val(size(weight, 1)), room)

function depthwise_gradients!(
    dx, dweight, slopes::F, x::Array{T,4}, weight, conv, ::Val{K}, room
) where {F,T,K}
    (; stride, padding) = conv
    shape = output_dims(conv, x, weight)
    margin = K - 1 - first(padding)
    taps = lane_taps(reverse(weight; dims=(1, 2)), room)
    parts = part_count(size(x, 4))
    inputs = [padded(room, x, padding) for _ in 1:parts]
    outputs = [padded(room, x, (K - 1, 0)) for _ in 1:parts]
    sums = [fill!(array(room, Float64, size(taps)...), 0) for _ in 1:parts]
    partials = [array(room, T, LANES, K, K) for _ in 1:parts]
    parallel(size(x, 4)) do part, images
        input, output = inputs[part], outputs[part]
        for image in images, block in lane_blocks(image, size(x, 1))
            load!((_, k) -> @inbounds(x[k]), input, block, size(x), first(padding), 1)
            load!(slopes, output, block, shape, margin, stride)
            correlate!(dx, block, output, taps, 1, Val(K))
            sum_products!(partials[part], output, input, shape, margin, stride, Val(K))
            view(sums[part], :, :, :, cld(block.first, LANES)) .+= partials[part]
        end
    end
    total = add_up!(sums)
    for c in axes(weight, 4), j in 1:K, i in 1:K
        dweight[i, j, 1, c] = total[mod1(c, LANES), i, j, cld(c, LANES)]
    end
    foreach(unused -> release!(room, unused), (taps, inputs..., outputs..., sums..., partials...))
    return nothing
end

"The weight (K, K, 1, C) as (LANES, K, K, blocks of channels)."
function lane_taps(weight::Array{T,4}, room) where {T}
    kernel, channels = size(weight, 1), size(weight, 4)
    taps = fill!(array(room, T, LANES, kernel, kernel, cld(channels, LANES)), 0)
    for c in 1:channels, j in 1:kernel, i in 1:kernel
        taps[mod1(c, LANES), i, j, cld(c, LANES)] = weight[i, j, 1, c]
    end
    return taps
end

"Zeros for LANES channels of an image of `x` with `padding` around it."
function padded(room, x::Array{T,4}, padding) where {T}
    width, height = (size(x, 2), size(x, 3)) .+ sum(padding)
    return fill!(array(room, T, LANES, width, height), 0)
end

"""
Copy a block of maps of `shape`, whose value at `k`, of channel `c`, is `source(c, k)`, into `buffer` from
pixel `margin` on, its pixels `stride` apart; what lies between stays as it was.
"""
function load!(source::F, buffer, block, shape, margin, stride) where {F}
    before = block.first - 1
    for row in 0:(shape[3] - 1), column in 0:(shape[2] - 1)
        from = offset(block, shape, row * shape[2] + column)
        to = LANES * ((margin + stride * row) * size(buffer, 2) + margin + stride * column)
        if block.count == LANES
            @inbounds @simd ivdep for lane in 1:LANES
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
function correlate!(y, block, buffer, taps, stride, ::Val{K}) where {K}
    base = (cld(block.first, LANES) - 1) * LANES * K * K
    row_length = LANES * size(buffer, 2)
    for row in 0:(size(y, 3) - 1), column in 0:(size(y, 2) - 1)
        to = offset(block, size(y), row * size(y, 2) + column)
        from = stride * (row * row_length + column * LANES)
        if block.count == LANES
            @inbounds @simd ivdep for lane in 1:LANES
                y[to + lane] = tap_sum(buffer, from + lane, row_length, taps, base + lane, Val(K))
            end
        else
            @inbounds for lane in 1:(block.count)
                y[to + lane] = tap_sum(buffer, from + lane, row_length, taps, base + lane, Val(K))
            end
        end
    end
end

@inline function tap_sum(buffer::Array{T}, from, row_length, taps, first_tap, ::Val{K}) where {T,K}
    value = zero(T)
    @inbounds for j in 0:(K - 1), i in 0:(K - 1)
        value = muladd(
            taps[first_tap + LANES * (K * j + i)],
            buffer[from + row_length * j + LANES * i],
            value,
        )
    end
    return value
end

"The sums (LANES, K, K) of the products of `output`, dilated maps of `shape`, and `input` under each tap."
function sum_products!(
    sums, output, input, (_, columns, rows), margin, stride, ::Val{K}
) where {K}
    fill!(sums, 0)
    output_row, input_row = LANES * size(output, 2), LANES * size(input, 2)
    for row in 0:(rows - 1), j in 0:(K - 1), column in 0:(columns - 1)
        dy = (margin + stride * row) * output_row + (margin + stride * column) * LANES
        x = (stride * row + j) * input_row + stride * column * LANES
        @inbounds @simd ivdep for lane in 1:LANES
            for i in 0:(K - 1)
                at = LANES * (K * j + i) + lane
                sums[at] = muladd(output[dy + lane], input[x + LANES * i + lane], sums[at])
            end
        end
    end
    return sums
end
