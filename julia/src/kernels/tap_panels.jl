# A frozen model's depthwise convolutions: some channels of a row of pixels at a time, their taps in registers.

"""
    TapPanels(weight, bias, V=lanes_for_channels(T, C))

The taps of a depthwise convolution, `weight[i, j, panel]`, and its bias, in panels of as many channels as the vector
`V` has lanes. The last panel may have some of the one before again; fewer channels than lanes have panels of one.
"""
struct TapPanels{V}
    weight::Array{V,3}
    bias::Vector{V}
end

TapPanels(weight::Array{T}, bias) where {T} = TapPanels(weight, bias, lanes_for_channels(T, length(bias)))
function TapPanels(weight::Array{T,4}, bias::Vector{T}, ::Type{V}) where {T,V<:Lanes{T}}
    channels, lanes, taps = length(bias), fieldcount(V), view(weight, :, :, 1, :)
    channels < lanes && return TapPanels(weight, bias, Lanes{T,1})
    function panel(values, number)
        before = channels_before(number, lanes, channels)
        return ntuple(l -> VecElement(values[before + l]), Val(fieldcount(V)))
    end
    numbers = 1:cld(channels, lanes)
    panels = V[panel(view(taps, i, j, :), number) for i in axes(taps, 1), j in axes(taps, 2), number in numbers]
    return TapPanels{V}(panels, V[panel(bias, number) for number in numbers])
end

"Channels before the first of a panel."
channels_before(number, lanes, channels) = min(lanes * (number - 1), channels - lanes)

"""
    correlate_lanes!(y, x, taps, activation, conv, lines, Val(kernel))

Write some of the lines of `y` (C, W, H, N), which count the rows of all images: what `taps` make of `x`.
"""
@generated function correlate_lanes!(
    y::Array{T,4}, x::Array{T,4}, taps::TapPanels{V}, activation, conv, lines, ::Val{K}
) where {T,V<:Lanes{T},K}
    return quote
        check_taps(y, x, taps.weight, conv, lines, K)
        channels, width, height = size(x)
        columns, rows = size(y, 2), size(y, 3)
        pixel, across = channels * sizeof(T), channels * width * sizeof(T)
        GC.@preserve y x for line in lines, panel in axes(taps.weight, 3)
            image, row = fldmod(line - 1, rows)
            top = conv.stride * row - first(conv.padding)
            @nexprs $K j -> is_row_j = 0 <= top + j - 1 < height
            @nexprs $K j -> @nexprs $K i -> tap_i_j = @inbounds taps.weight[i, j, panel]
            bias = @inbounds taps.bias[panel]
            before = channels_before(panel, fieldcount(V), channels)
            to = pointer(y, (line - 1) * columns * channels + before + 1)
            start = pointer(x, before + 1) + (image * height + top) * across
            for column in 0:(columns - 1)
                left = conv.stride * column - first(conv.padding)
                from = start + left * pixel
                is_whole = 0 <= left <= width - $K
                @nexprs $K j -> begin # sums that do not wait for each other
                    sum_j = all_lanes(zero(T), V)
                    if is_row_j && is_whole
                        @nexprs $K i -> begin
                            sum_j = fused(tap_i_j, lanes_at(V, from + (j - 1) * across + (i - 1) * pixel), sum_j)
                        end
                    elseif is_row_j
                        @nexprs $K i -> if 0 <= left + i - 1 < width
                            sum_j = fused(tap_i_j, lanes_at(V, from + (j - 1) * across + (i - 1) * pixel), sum_j)
                        end
                    end
                end
                total = bias
                @nexprs $K j -> total = added(total, sum_j)
                unsafe_store!(Ptr{V}(to), activated_lanes(activation, total))
                to += pixel
            end
        end
        return y
    end
end

"What `correlate_lanes!` reads and writes without looking must be there."
function check_taps(y, x, weight, conv, lines, kernel)
    panels = cld(size(x, 1), fieldcount(eltype(weight)))
    fits = size(weight) == (kernel, kernel, panels) && conv.kernel == kernel && size(x, 1) >= fieldcount(eltype(weight))
    fits && output_dims(conv, x, size(x, 1)) == size(y) && lines ⊆ 1:(size(y, 3) * size(y, 4)) && return nothing
    throw(DimensionMismatch("$(size(weight)) taps for $(size(x)) into lines $lines of $(size(y))"))
end
