# A frozen model's depthwise convolutions: some channels of a row of pixels at a time, their taps in registers.

"The taps of a depthwise convolution, `weight[i, j, panel]`, and its bias, in panels of some channels."
struct TapPanels{V}
    weight::Array{V,3}
    bias::Vector{V}
end

function TapPanels(weight::Array, bias::Vector, lanes...)
    kernel, channels = size(weight, 1), size(weight, 4)
    panels = Panels(reshape(weight, kernel^2, channels), bias, lanes...)
    return TapPanels(reshape(panels.weight, kernel, kernel, :), panels.bias)
end

"""
Write image `number` of `y` (C, W, H, N), which `taps` make of `image` (C, W, H), zeros around and as many after it as
a vector has lanes.
"""
@generated function correlate_lanes!(
    y::Array{T,4}, number, taps::TapPanels{V}, image::Array{T,3}, activation, stride, ::Val{K}
) where {T,V<:Lanes{T},K}
    return quote
        check_taps(y, number, taps.weight, image, stride, K)
        channels, columns, rows = size(y)
        pixel, across = channels * sizeof(T), channels * size(image, 2) * sizeof(T)
        GC.@preserve y image for row in 0:(rows - 1), panel in axes(taps.weight, 3)
            @nexprs $K j -> @nexprs $K i -> tap_i_j = @inbounds taps.weight[i, j, panel]
            bias = @inbounds taps.bias[panel]
            done = fieldcount(V) * (panel - 1)
            to = pointer(y, ((number - 1) * rows + row) * columns * channels + done + 1)
            from = pointer(image, done + 1) + stride * row * across
            for _ in 1:columns
                @nexprs $K j -> begin # sums that do not wait for each other
                    sum_j = all_lanes(zero(T), V)
                    @nexprs $K i -> begin
                        sum_j = fused(tap_i_j, lanes_at(V, from + (j - 1) * across + (i - 1) * pixel), sum_j)
                    end
                end
                total = bias
                @nexprs $K j -> total = added(total, sum_j)
                put!(to, activated_lanes(activation, total), channels - done)
                from += stride * pixel
                to += pixel
            end
        end
        return y
    end
end

"What `correlate_lanes!` reads and writes without looking must be there."
function check_taps(y, number, weight, image, stride, kernel)
    channels, columns, rows = size(y)
    lanes, panels = fieldcount(eltype(weight)), size(weight, 3)
    far(pixels) = kernel - 1 + stride * (pixels - 1)
    farthest = channels * (far(columns) + size(image, 2) * far(rows)) + lanes * panels
    inside = farthest <= length(image) && channels == size(image, 1) && far(columns) < size(image, 2)
    inside && number in axes(y, 4) && size(weight, 1) == kernel && panels == cld(channels, lanes) && return nothing
    throw(DimensionMismatch("$(size(weight)) taps for $(size(image)) into image $number of $(size(y))"))
end
