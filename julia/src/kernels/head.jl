room_of(kernels::Fast) = kernels.room

"""
    global_mean(kernels, x)

Mean of the maps `x` over each plane, summed in Float64: (C, N).
"""
function global_mean(kernels::Fast, x::Array{T,4}) where {T}
    channels, images = size(x, 1), size(x, 4)
    planes = reshape(x, channels, :, images)
    means = array(kernels.room, T, channels, images)
    totals = [array(kernels.room, Float64, channels) for _ in 1:part_count(images)]
    parallel(images) do part, range
        total = totals[part]
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
    foreach(unused -> release!(kernels.room, unused), totals)
    return means
end

function ChainRulesCore.rrule(::typeof(global_mean), kernels::Fast, x::Array{T,4}) where {T}
    function global_mean_pullback(gradient)
        dy = reshape(unthunk(gradient), size(x, 1), 1, 1, size(x, 4))
        dx = array(kernels.room, T, size(x)...)
        dx .= dy ./ T(size(x, 2) * size(x, 3))
        return NoTangent(), NoTangent(), dx
    end
    return global_mean(kernels, x), global_mean_pullback
end

"The maps of a residual block and its input added."
function add(kernels::Fast, maps::Array{T,4}, input) where {T}
    total = array(kernels.room, T, size(maps)...)
    parallel(length(total), 2^14) do _, range
        @inbounds @simd ivdep for k in range
            total[k] = maps[k] + input[k]
        end
    end
    return total
end

function ChainRulesCore.rrule(::typeof(add), kernels, maps, input)
    function add_pullback(gradient)
        dy = unthunk(gradient)
        return NoTangent(), NoTangent(), dy, dy
    end
    return add(kernels, maps, input), add_pullback
end

"Features (C, N) times `factors` of the same size, or as they are where there are none."
drop(features, factors) = isnothing(factors) ? features : features .* factors

function ChainRulesCore.rrule(::typeof(drop), features, factors)
    drop_pullback(gradient) = NoTangent(), drop(unthunk(gradient), factors), NoTangent()
    return drop(features, factors), drop_pullback
end

"""
    linear(x, weight, bias, room)

`weight' * x .+ bias` for `x` (in, N), `weight` (in, out) and `bias` (out,): (out, N).
"""
function linear(x::Matrix{T}, weight, bias, room) where {T}
    y = array(room, T, size(weight, 2), size(x, 2))
    one_blas_thread(() -> BLAS.gemm!('T', 'N', one(T), weight, x, zero(T), y))
    return y .+= bias
end

function ChainRulesCore.rrule(::typeof(linear), x::Matrix{T}, weight, bias, room) where {T}
    function linear_pullback(gradient)
        dy = unthunk(gradient)
        dx = array(room, T, size(x)...)
        dweight, dbias = gradient_like(room, weight), gradient_like(room, bias)
        one_blas_thread() do
            BLAS.gemm!('N', 'N', one(T), weight, dy, zero(T), dx)
            BLAS.gemm!('N', 'T', one(T), x, dy, zero(T), dweight)
        end
        sum!(dbias, dy)
        return NoTangent(), dx, dweight, dbias, NoTangent()
    end
    return linear(x, weight, bias, room), linear_pullback
end

"""
    softmax(logits)

Probabilities of logits (classes, N), each column computed in Float64.
"""
function softmax(logits::Matrix)
    probabilities = similar(logits)
    for (into, column) in zip(eachcol(probabilities), eachcol(logits))
        top, total = peak(column)
        into .= exp.(column .- top) ./ total
    end
    return probabilities
end

"The largest logit of a column, in Float64, and the sum of `exp(logit - largest)`."
function peak(column)
    top = Float64(maximum(column))
    return top, sum(value -> exp(value - top), column)
end

"""
    cross_entropy(logits, labels) -> Float64

Mean over the batch of `sum(targets .* (log(sum(exp(logits))) .- logits))`, in Float64, for `logits`
(classes, N). `labels` are the targets (classes, N), or classes (N,) that count from 0, of which a target
is 1.
"""
function cross_entropy(logits::Matrix, labels)
    loss = 0.0
    for (column, target) in zip(eachcol(logits), each_label(labels))
        top, total = peak(column)
        level = top + log(total)
        loss += sum(k -> share(target, k) * (level - column[k]), eachindex(column))
    end
    return loss / size(logits, 2)
end

each_label(labels::Vector{Int}) = labels
each_label(labels::Matrix) = eachcol(labels)

"The part of the k-th class in a label."
share(label::Int, k) = k == label + 1
share(target, k) = Float64(target[k])

total_share(::Int) = 1
total_share(target) = sum(Float64, target)

function ChainRulesCore.rrule(::typeof(cross_entropy), logits::Matrix{T}, labels) where {T}
    function cross_entropy_pullback(gradient)
        dlogits, slope = similar(logits), unthunk(gradient) / size(logits, 2)
        for (column, dcolumn, target) in zip(eachcol(logits), eachcol(dlogits), each_label(labels))
            top, total = peak(column)
            whole = total_share(target)
            for k in eachindex(column)
                dcolumn[k] = (exp(column[k] - top) / total * whole - share(target, k)) * slope
            end
        end
        return NoTangent(), dlogits, NoTangent()
    end
    return cross_entropy(logits, labels), cross_entropy_pullback
end
