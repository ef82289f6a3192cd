# What follows the convolutions: global pooling, dropout, the classifier; and the sum of a residual block.

"""
    global_mean(kernels, x)

The mean of the maps `x` over each plane, summed in Float64: (C, N).
"""
function global_mean(kernels::FastKernels, x::Array{T,4}) where {T}
    (; workspace) = kernels
    channels, images = size(x, 1), size(x, 4)
    planes = reshape(x, channels, :, images)
    means = allocate(workspace, T, channels, images)
    totals = [allocate(workspace, Float64, channels) for _ in 1:chunk_count(images)]
    parallel(images) do chunk, range
        total = totals[chunk]
        for image in range
            fill!(total, 0)
            @inbounds for pixel in axes(planes, 2)
                @simd ivdep for c in 1:channels
                    total[c] += planes[c, pixel, image]
                end
            end
            view(means, :, image) .= total ./ size(planes, 2)
        end
    end
    foreach(array -> release!(workspace, array), totals)
    return means
end

function ChainRulesCore.rrule(::typeof(global_mean), kernels::FastKernels, x::Array{T,4}) where {T}
    function global_mean_pullback(gradient)
        dy = reshape(unthunk(gradient), size(x, 1), 1, 1, size(x, 4))
        dx = allocate(kernels.workspace, T, size(x)...)
        dx .= dy ./ T(size(x, 2) * size(x, 3))
        return NoTangent(), NoTangent(), dx
    end
    return global_mean(kernels, x), global_mean_pullback
end

"""
    residual_add(kernels, maps, input)

The sum of the maps of a residual block and its input.
"""
function residual_add(kernels::FastKernels, maps::Array{T,4}, input) where {T}
    total = allocate(kernels.workspace, T, size(maps)...)
    parallel(length(total), MIN_ELEMENTS_PER_THREAD) do _, range
        @inbounds @simd ivdep for k in range
            total[k] = maps[k] + input[k]
        end
    end
    return total
end

function ChainRulesCore.rrule(::typeof(residual_add), kernels, maps, input)
    function residual_add_pullback(gradient)
        dy = unthunk(gradient)
        return NoTangent(), NoTangent(), dy, dy
    end
    return residual_add(kernels, maps, input), residual_add_pullback
end

"Features (C, N) times `factors` of the same size; the features themselves if `factors` is `nothing`."
apply_dropout(features, factors) = isnothing(factors) ? features : features .* factors

function ChainRulesCore.rrule(::typeof(apply_dropout), features, factors)
    function apply_dropout_pullback(gradient)
        return NoTangent(), apply_dropout(unthunk(gradient), factors), NoTangent()
    end
    return apply_dropout(features, factors), apply_dropout_pullback
end

"""
    linear(x, weight, bias, workspace)

`weight' * x .+ bias` for `x` (in, N), `weight` (in, out) and `bias` (out,): (out, N).
"""
function linear(x::Matrix{T}, weight, bias, workspace) where {T}
    y = allocate(workspace, T, size(weight, 2), size(x, 2))
    with_one_blas_thread(() -> BLAS.gemm!('T', 'N', one(T), weight, x, zero(T), y))
    return y .+= bias
end

function ChainRulesCore.rrule(::typeof(linear), x::Matrix{T}, weight, bias, workspace) where {T}
    function linear_pullback(gradient)
        dy = unthunk(gradient)
        dx = allocate(workspace, T, size(x)...)
        dweight, dbias = gradient_array(workspace, weight), gradient_array(workspace, bias)
        with_one_blas_thread() do
            BLAS.gemm!('N', 'N', one(T), weight, dy, zero(T), dx)
            BLAS.gemm!('N', 'T', one(T), x, dy, zero(T), dweight)
        end
        sum!(dbias, dy)
        return NoTangent(), dx, dweight, dbias, NoTangent()
    end
    return linear(x, weight, bias, workspace), linear_pullback
end
