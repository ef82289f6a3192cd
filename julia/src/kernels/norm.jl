# Batch normalisation, Ioffe & Szegedy, arXiv:1502.03167. Sums and the affine step run in Float64
# whatever the type of the maps: a Float32 mean over (W, H, N) loses two bits, which every later
# layer inherits.

"Sum of `f(x[k])` over one channel of the planes `x` (W*H, C, N), image by image, in Float64."
@inline function channel_sum(f::F, x::Array{T,3}, channel) where {F,T}
    total = 0.0
    @inbounds for image in axes(x, 3)
        partial = 0.0
        @simd for pixel in axes(x, 1)
            partial += f(pixel, image)
        end
        total += partial
    end
    return total
end

"Mean and biased variance of each channel over (W, H, N), in two passes: two `Vector{Float64}`."
function batch_statistics(maps::Array{T,4}) where {T}
    x = planes(maps)
    count = size(x, 1) * size(x, 3)
    mean = Vector{Float64}(undef, size(x, 2))
    var = similar(mean)
    parallel(length(mean)) do range
        @inbounds for c in range
            m = channel_sum((k, n) -> Float64(x[k, c, n]), x, c) / count
            mean[c] = m
            var[c] = channel_sum((k, n) -> abs2(Float64(x[k, c, n]) - m), x, c) / count
        end
    end
    return mean, var
end

"`(x - mean) / sqrt(var + eps) * weight + bias` of the maps `x` (W, H, C, N)."
function normalise_maps(maps::Array{T,4}, weight, bias, mean, var, eps) where {T}
    x = planes(maps)
    result = similar(maps)
    y = planes(result)
    parallel(size(x, 2)) do range
        @inbounds for c in range
            m, shift = Float64(mean[c]), Float64(bias[c])
            scale = weight[c] / sqrt(var[c] + eps)
            for n in axes(x, 3)
                @simd ivdep for k in axes(x, 1)
                    y[k, c, n] = muladd(x[k, c, n] - m, scale, shift)
                end
            end
        end
    end
    return result
end

"""
    norm_train(x, weight, bias, eps) -> y, mean, var

Normalise `x` (W, H, C, N) by the batch's own mean and biased variance, which are returned as
`Vector{Float64}`. Differentiable in `x`, `weight` and `bias`.
"""
function norm_train(x, weight, bias, eps::Float64)
    mean, var = batch_statistics(x)
    return normalise_maps(x, weight, bias, mean, var, eps), mean, var
end

"""
    norm_eval(x, weight, bias, mean, var, eps)

Normalise `x` (W, H, C, N) by the running statistics. Differentiable in `x`, `weight` and `bias`.
"""
norm_eval(x, weight, bias, mean, var, eps::Float64) = normalise_maps(x, weight, bias, mean, var, eps)

function ChainRulesCore.rrule(::typeof(norm_train), x, weight, bias, eps::Float64)
    y, mean, var = norm_train(x, weight, bias, eps)
    function norm_train_pullback(gradients)
        dy = unthunk(gradients[1])
        dx, dweight, dbias = norm_gradients(dy, x, weight, mean, var, eps, true)
        return NoTangent(), dx, dweight, dbias, NoTangent()
    end
    return (y, mean, var), norm_train_pullback
end

function ChainRulesCore.rrule(::typeof(norm_eval), x, weight, bias, mean, var, eps::Float64)
    function norm_eval_pullback(gradient)
        dy = unthunk(gradient)
        dx, dweight, dbias = norm_gradients(dy, x, weight, mean, var, eps, false)
        return NoTangent(), dx, dweight, dbias, NoTangent(), NoTangent(), NoTangent()
    end
    return norm_eval(x, weight, bias, mean, var, eps), norm_eval_pullback
end

"""
Gradients of maps, weight and bias. Where the statistics are the `batch`'s own they move with `x`:
`dx = weight * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))`; else the two means drop out.
"""
function norm_gradients(dmaps::Array{T,4}, maps, weight, mean, var, eps, batch::Bool) where {T}
    x, dy, result = planes(maps), planes(dmaps), similar(maps)
    dx, dweight, dbias = planes(result), similar(weight), similar(weight)
    count = size(x, 1) * size(x, 3)
    parallel(size(x, 2)) do range
        @inbounds for c in range
            m, invstd = Float64(mean[c]), 1 / sqrt(var[c] + eps)
            total = channel_sum((k, n) -> Float64(dy[k, c, n]), x, c)
            product = channel_sum((k, n) -> dy[k, c, n] * (x[k, c, n] - m), x, c) * invstd
            dweight[c], dbias[c] = product, total
            scale = weight[c] * invstd
            constant, slope = batch ? (total / count, product * invstd / count) : (0.0, 0.0)
            for n in axes(x, 3)
                @simd ivdep for k in axes(x, 1)
                    dx[k, c, n] = scale * (dy[k, c, n] - constant - (x[k, c, n] - m) * slope)
                end
            end
        end
    end
    return result, dweight, dbias
end
