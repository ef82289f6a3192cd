"""
    softmax(logits)

Probabilities for logits (classes, N); each column is computed in Float64.
"""
function softmax(logits::Matrix)
    probabilities = similar(logits)
    for (to, column) in zip(eachcol(probabilities), eachcol(logits))
        largest, total = max_and_exp_sum(column)
        to .= exp.(column .- largest) ./ total
    end
    return probabilities
end

"The largest logit of a column, in Float64, and the sum of `exp(logit - largest)`."
function max_and_exp_sum(column)
    largest = Float64(maximum(column))
    return largest, sum(value -> exp(value - largest), column)
end

"""
    cross_entropy(logits, labels) -> Float64

The mean over the batch of `sum(targets .* (log(sum(exp(logits))) .- logits))`, in Float64, for `logits`
(classes, N). `labels` are the targets (classes, N), or class numbers (N,) from 0, whose targets are one-hot.
"""
function cross_entropy(logits::Matrix, labels)
    loss = 0.0
    for (column, label) in zip(eachcol(logits), each_label(labels))
        largest, total = max_and_exp_sum(column)
        log_sum = largest + log(total)
        loss += sum(k -> target(label, k) * (log_sum - column[k]), eachindex(column))
    end
    return loss / size(logits, 2)
end

each_label(labels::Vector{Int}) = labels
each_label(labels::Matrix) = eachcol(labels)

"The target of the `k`th class in a label."
target(label::Int, k) = k == label + 1
target(label, k) = Float64(label[k])

target_sum(::Int) = 1
target_sum(label) = sum(Float64, label)

function ChainRulesCore.rrule(::typeof(cross_entropy), logits::Matrix{T}, labels) where {T}
    function cross_entropy_pullback(gradient)
        dlogits, factor = similar(logits), unthunk(gradient) / size(logits, 2)
        for (column, dcolumn, label) in zip(eachcol(logits), eachcol(dlogits), each_label(labels))
            largest, total = max_and_exp_sum(column)
            targets = target_sum(label)
            for k in eachindex(column)
                dcolumn[k] = (exp(column[k] - largest) / total * targets - target(label, k)) * factor
            end
        end
        return NoTangent(), dlogits, NoTangent()
    end
    return cross_entropy(logits, labels), cross_entropy_pullback
end
