"""
    global_mean(x)

Mean of `x` (W, H, C, N) over each plane, summed in Float64: (C, N).
"""
function global_mean(x::Array{T,4}) where {T}
    pixels = size(x, 1) * size(x, 2)
    return T[sum(Float64, plane) / pixels for plane in eachslice(x; dims=(3, 4))]
end

function ChainRulesCore.rrule(::typeof(global_mean), x::Array{T,4}) where {T}
    function global_mean_pullback(gradient)
        dy = reshape(unthunk(gradient), 1, 1, size(x, 3), size(x, 4))
        return NoTangent(), repeat(dy ./ T(size(x, 1) * size(x, 2)), size(x, 1), size(x, 2))
    end
    return global_mean(x), global_mean_pullback
end

"The maps of a residual block and its input, both (W, H, C, N), added."
add(maps, input) = maps + input

function ChainRulesCore.rrule(::typeof(add), maps, input)
    function add_pullback(gradient)
        dy = unthunk(gradient)
        return NoTangent(), dy, dy
    end
    return add(maps, input), add_pullback
end

"Features (C, N) times `factors` of the same size, or as they are where there are none."
drop(features, factors) = isnothing(factors) ? features : features .* factors

function ChainRulesCore.rrule(::typeof(drop), features, factors)
    drop_pullback(gradient) = NoTangent(), drop(unthunk(gradient), factors), NoTangent()
    return drop(features, factors), drop_pullback
end

"""
    linear(x, weight, bias)

`weight' * x .+ bias` for `x` (in, N), `weight` (in, out) and `bias` (out,): (out, N).
"""
linear(x, weight, bias) = BLAS.gemm('T', 'N', weight, x) .+ bias

function ChainRulesCore.rrule(::typeof(linear), x, weight, bias)
    function linear_pullback(gradient)
        dy = unthunk(gradient)
        dx, dweight = BLAS.gemm('N', 'N', weight, dy), BLAS.gemm('N', 'T', x, dy)
        return NoTangent(), dx, dweight, vec(sum(dy; dims=2))
    end
    return linear(x, weight, bias), linear_pullback
end

"""
    softmax(logits)

Probabilities of logits (classes, N), each column computed in Float64.
"""
function softmax(logits::Matrix)
    probabilities = similar(logits)
    for (into, column) in zip(eachcol(probabilities), eachcol(logits))
        into .= column_softmax(column)
    end
    return probabilities
end

function column_softmax(column)
    powers = exp.(column .- Float64(maximum(column)))
    return powers ./= sum(powers)
end

"""
    cross_entropy(logits, labels) -> Float64

Mean over the batch of `log(sum(exp(logits))) - logits[label]`, in Float64, for `logits`
(classes, N) and `labels` (N,) that count from 0.
"""
function cross_entropy(logits::Matrix, labels::Vector{Int})
    losses = map(eachcol(logits), labels) do column, label
        top = Float64(maximum(column))
        top + log(sum(value -> exp(value - top), column)) - column[label + 1]
    end
    return sum(losses) / length(labels)
end

function ChainRulesCore.rrule(::typeof(cross_entropy), logits::Matrix{T}, labels) where {T}
    function cross_entropy_pullback(gradient)
        dlogits = similar(logits)
        for (column, dcolumn, label) in zip(eachcol(logits), eachcol(dlogits), labels)
            powers = column_softmax(column)
            powers[label + 1] -= 1
            dcolumn .= powers .* (unthunk(gradient) / length(labels))
        end
        return NoTangent(), dlogits, NoTangent()
    end
    return cross_entropy(logits, labels), cross_entropy_pullback
end
