# A depthwise convolution (cross-correlation, as in torch) plane by plane: each plane is copied into
# a zero-padded buffer, and one short loop over `taps`, the plane's K*K weights, does the rest. The
# gradient of the input is the same loop over the reversed taps.

"""
    depthwise(x, weight, stride, padding)

Each channel of `x` (W, H, C, N) correlated with its own kernel of `weight` (K, K, 1, C), with
`padding` = (before, after) zeros on both axes, both < K: (W', H', C, N).
"""
function depthwise(x::Array{T,4}, weight::Array{T,4}, stride::Int, padding::NTuple{2,Int}) where {T}
    return depthwise_planes(x, weight, Val(size(weight, 1)), Val(stride), padding)
end

function ChainRulesCore.rrule(
    ::typeof(depthwise), x::Array{T,4}, weight::Array{T,4}, stride::Int, padding::NTuple{2,Int}
) where {T}
    function depthwise_pullback(gradient)
        dy, kernel, step = unthunk(gradient), Val(size(weight, 1)), Val(stride)
        dx = depthwise_input_gradient(dy, size(x), weight, kernel, step, padding)
        dweight = depthwise_weight_gradient(dy, x, kernel, step, padding)
        return NoTangent(), dx, dweight, NoTangent(), NoTangent()
    end
    return depthwise(x, weight, stride, padding), depthwise_pullback
end

function depthwise_planes(x::Array{T,4}, weight, kernel::Val{K}, stride::Val{S}, padding) where {T,K,S}
    width, height, channels, images = size(x)
    columns, rows = output_size(width, K, S, padding), output_size(height, K, S, padding)
    y = Array{T}(undef, columns, rows, channels, images)
    parallel(channels) do range
        buffer = zeros(T, (width, height) .+ sum(padding))
        for channel in range
            taps = kernel_taps(weight, channel, kernel)
            for image in 1:images
                load!(buffer, x, channel, image, first(padding), Val(1))
                correlate_plane!(y, channel, image, buffer, taps, kernel, stride)
            end
        end
    end
    return y
end

function depthwise_input_gradient(
    dy::Array{T,4}, shape, weight, kernel::Val{K}, stride::Val, padding
) where {T,K}
    width, height, channels, images = shape
    dx = Array{T}(undef, shape)
    parallel(channels) do range
        buffer = zeros(T, width + K - 1, height + K - 1)
        for channel in range
            taps = reverse(kernel_taps(weight, channel, kernel))
            for image in 1:images
                load!(buffer, dy, channel, image, K - 1 - first(padding), stride)
                correlate_plane!(dx, channel, image, buffer, taps, kernel, Val(1))
            end
        end
    end
    return dx
end

function depthwise_weight_gradient(
    dy::Array{T,4}, x, ::Val{K}, stride::Val, padding
) where {T,K}
    width, height, channels, images = size(x)
    dweight = Array{T}(undef, K, K, 1, channels)
    parallel(channels) do range
        buffer = zeros(T, (width, height) .+ sum(padding))
        partial = Array{T}(undef, size(dy, 1), K, K)
        total = Array{Float64}(undef, size(partial))
        for channel in range
            fill!(total, 0)
            for image in 1:images
                load!(buffer, x, channel, image, first(padding), Val(1))
                fill!(partial, 0)
                gather_products!(partial, dy, channel, image, buffer, stride)
                total .+= partial
            end
            dweight[:, :, 1, channel] .= dropdims(sum(total; dims=1); dims=1)
        end
    end
    return dweight
end

function kernel_taps(weight, channel, ::Val{K}) where {K}
    return ntuple(tap -> @inbounds(weight[(channel - 1) * K * K + tap]), Val(K * K))
end

"Copy a plane into `buffer` from position `margin`, `S` apart; what lies between stays as it was."
function load!(buffer, x, channel, image, margin, ::Val{S}) where {S}
    @inbounds for row in axes(x, 2)
        @simd ivdep for column in axes(x, 1)
            buffer[margin + S * (column - 1) + 1, margin + S * (row - 1) + 1] =
                x[column, row, channel, image]
        end
    end
end

function correlate_plane!(
    y::Array{T}, channel, image, buffer, taps, ::Val{K}, ::Val{S}
) where {T,K,S}
    @inbounds for row in axes(y, 2)
        @simd ivdep for column in axes(y, 1)
            value = zero(T)
            for j in 1:K, i in 1:K
                value = muladd(
                    taps[K * (j - 1) + i], buffer[S * (column - 1) + i, S * (row - 1) + j], value
                )
            end
            y[column, row, channel, image] = value
        end
    end
end

"Add to `partial` (columns, K, K) the products of `dy` and `buffer` under each tap, summed over rows."
function gather_products!(partial, dy, channel, image, buffer, ::Val{S}) where {S}
    @inbounds for row in axes(dy, 2), j in axes(partial, 3), i in axes(partial, 2)
        @simd ivdep for column in axes(dy, 1)
            partial[column, i, j] = muladd(
                dy[column, row, channel, image],
                buffer[S * (column - 1) + i, S * (row - 1) + j],
                partial[column, i, j],
            )
        end
    end
end
