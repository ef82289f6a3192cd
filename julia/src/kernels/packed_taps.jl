# Depthwise convolutions of a frozen model: a panel of channels of one row of pixels at a time, its taps in registers.

"""
    PackedTaps(weight, bias, V=lanes_for_channels(T, C))

The taps `weight[i, j, panel]` of a depthwise convolution and its bias, in panels of as many channels as the vector
type `V` has lanes. The last panel may repeat channels of the one before. With fewer channels than lanes, panels have
one channel.
"""
struct PackedTaps{V}
    weight::Array{V,3}
    bias::Vector{V}
end

PackedTaps(weight::Array{T}, bias) where {T} = PackedTaps(weight, bias, lanes_for_channels(T, length(bias)))
function PackedTaps(weight::Array{T,4}, bias::Vector{T}, ::Type{V}) where {T,V<:Lanes{T}}
    channels, lanes, taps = length(bias), fieldcount(V), view(weight, :, :, 1, :)
    channels < lanes && return PackedTaps(weight, bias, Lanes{T,1})
    function panel(values, number)
        before = channels_before(number, lanes, channels)
        return ntuple(l -> VecElement(values[before + l]), Val(fieldcount(V)))
    end
    numbers = 1:cld(channels, lanes)
    panels = V[panel(view(taps, i, j, :), number) for i in axes(taps, 1), j in axes(taps, 2), number in numbers]
    return PackedTaps{V}(panels, V[panel(bias, number) for number in numbers])
end

"The number of channels before the first one of a panel."
channels_before(number, lanes, channels) = min(lanes * (number - 1), channels - lanes)

"""
    correlate_lines!(y, x, taps, activation, conv, lines, Val(kernel), Val(stride))

Write the lines `lines` of `y` (C, W, H, N), where lines count the rows of all images: the activated depthwise
convolution of `x` with `taps`.
"""
@generated function correlate_lines!(
    y::Array{T,4}, x::Array{T,4}, taps::PackedTaps{V}, activation, conv, lines, ::Val{K}, ::Val{S}
) where {T,V<:Lanes{T},K,S}
    block = DEPTHWISE_BLOCK
    return quote
        check_tap_bounds(y, x, taps.weight, conv, lines, K, S)
        channels, width, height = size(x)
        columns, rows = size(y, 2), size(y, 3)
        pixel, across = channels * sizeof(T), channels * width * sizeof(T)
        first_inside = cld(first(conv.padding), S) # the columns whose taps are all in the image
        last_inside = fld(width - K + first(conv.padding), S)
        GC.@preserve y x for line in lines, panel in axes(taps.weight, 3)
            image, row = fldmod(line - 1, rows)
            top = S * row - first(conv.padding)
            @nexprs $K j -> is_row_j = 0 <= top + j - 1 < height
            @nexprs $K j -> @nexprs $K i -> tap_i_j = @inbounds taps.weight[i, j, panel]
            bias = @inbounds taps.bias[panel]
            before = channels_before(panel, fieldcount(V), channels)
            to = pointer(y, (line - 1) * columns * channels + before + 1)
            start = pointer(x, before + 1) + (image * height + top) * across
            column = 0
            while column < columns
                left = S * column - first(conv.padding)
                from = start + left * pixel
                if first_inside <= column <= last_inside - $(block - 1)
                    @nexprs $block b -> total_b = bias
                    @nexprs $K j -> if is_row_j
                        @nexprs $(S * (block - 1) + K) v ->
                            value_v = load_lanes(V, from + (j - 1) * across + (v - 1) * pixel)
                        @nexprs $block b -> sum_b = fill_lanes(zero(T), V)
                        @nexprs $K i -> @nexprs $block b ->
                            sum_b = muladd_lanes(tap_i_j, value_{$S * (b - 1) + i}, sum_b)
                        @nexprs $block b -> total_b = add_lanes(total_b, sum_b)
                    end
                    @nexprs $block b ->
                        unsafe_store!(Ptr{V}(to + (b - 1) * pixel), activate_lanes(activation, total_b))
                    column += $block
                    to += $block * pixel
                else
                    total = bias
                    @nexprs $K j -> if is_row_j
                        sum = fill_lanes(zero(T), V)
                        @nexprs $K i -> if 0 <= left + i - 1 < width
                            value = load_lanes(V, from + (j - 1) * across + (i - 1) * pixel)
                            sum = muladd_lanes(tap_i_j, value, sum)
                        end
                        total = add_lanes(total, sum)
                    end
                    unsafe_store!(Ptr{V}(to), activate_lanes(activation, total))
                    column += 1
                    to += pixel
                end
            end
        end
        return y
    end
end

"Bounds of what `correlate_lines!` reads and writes without checks."
function check_tap_bounds(y, x, weight, conv, lines, kernel, stride)
    panels = cld(size(x, 1), fieldcount(eltype(weight)))
    fits = size(weight) == (kernel, kernel, panels) && (conv.kernel, conv.stride) == (kernel, stride) &&
        size(x, 1) >= fieldcount(eltype(weight))
    fits && output_dims(conv, x, size(x, 1)) == size(y) && lines ⊆ 1:(size(y, 3) * size(y, 4)) && return nothing
    throw(DimensionMismatch("$(size(weight)) taps for $(size(x)) into lines $lines of $(size(y))"))
end
