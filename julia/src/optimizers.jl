# Optimizers by their formulas (docs/training.md), as torch computes them, in place. Optimisers.Momentum folds
# the rate into the velocity and Optimisers.Adam takes its betas in Float32, so both drift away from torch's.
# Scalars are computed in `Float64` and rounded once to the type of the parameters.

"`v = momentum * v + g; p -= rate * v`; with `nesterov` `p -= rate * (g + momentum * v)`."
struct HeavyBall
    rate::Float64
    momentum::Float64
    nesterov::Bool
end

"Kingma & Ba, arXiv:1412.6980, algorithm 1, with `eps` added outside the root. `step` counts from 1."
struct TorchAdam
    rate::Float64
    beta1::Float64
    beta2::Float64
    eps::Float64
    step::Int
end

"Tieleman & Hinton, Coursera lecture 6.5 (2012), with `eps` outside the root and the rate outside the momentum."
struct TorchRMSProp
    rate::Float64
    momentum::Float64
    alpha::Float64
    eps::Float64
end

"RMSprop as TensorFlow and Keras have it: `eps` inside the root, the rate inside the momentum."
struct TensorFlowRMSProp
    rate::Float64
    momentum::Float64
    alpha::Float64
    eps::Float64
    initial_square_avg::Float64
end

"What a rule keeps for a parameter `p`, at its start."
moments(::HeavyBall, p) = (momentum=zero(p),)
moments(::TorchAdam, p) = (exp_avg=zero(p), exp_avg_sq=zero(p))
moments(::TorchRMSProp, p) = (momentum=zero(p), square_avg=zero(p))
moments(rule::TensorFlowRMSProp, p) =
    (momentum=zero(p), square_avg=fill!(similar(p), rule.initial_square_avg))

"""
What comes before a rule: the gradient `g` becomes `scale * g + pull * p` (clipping, coupled decay), the
parameter `stay * p` (AdamW's decay).
"""
const NOTHING_BEFORE = (scale=1.0, pull=0.0, stay=1.0)

"Elements of a parameter that are worth a thread."
const LEAST_ELEMENTS = 2^14

"Move `p` and its moments by the gradient `g`, which stays as it is."
function update!(rule::HeavyBall, (; momentum), p::Array{T}, g, before=NOTHING_BEFORE) where {T}
    scale, pull, stay = T.(values(before))
    rate, keep = T(rule.rate), T(rule.momentum)
    of_momentum, of_gradient = rule.nesterov ? (keep, one(T)) : (one(T), zero(T))
    parallel(length(p), LEAST_ELEMENTS) do _, range
        @inbounds @simd ivdep for k in range
            d = scale * g[k] + pull * p[k]
            momentum[k] = keep * momentum[k] + d
            p[k] = stay * p[k] - rate * (of_momentum * momentum[k] + of_gradient * d)
        end
    end
end

function update!(rule::TorchAdam, (; exp_avg, exp_avg_sq), p::Array{T}, g, before=NOTHING_BEFORE) where {T}
    scale, pull, stay = T.(values(before))
    first_weight, second_weight = T(1 - rule.beta1), T(1 - rule.beta2)
    beta2, eps = T(rule.beta2), T(rule.eps)
    rate = T(rule.rate / (1 - rule.beta1^rule.step))
    correction = T(sqrt(1 - rule.beta2^rule.step))
    parallel(length(p), LEAST_ELEMENTS) do _, range
        @inbounds @simd ivdep for k in range
            d = scale * g[k] + pull * p[k]
            exp_avg[k] += first_weight * (d - exp_avg[k])
            exp_avg_sq[k] = beta2 * exp_avg_sq[k] + second_weight * d * d
            p[k] = stay * p[k] - rate * exp_avg[k] / (sqrt(exp_avg_sq[k]) / correction + eps)
        end
    end
end

function update!(rule::TorchRMSProp, (; momentum, square_avg), p::Array{T}, g, before=NOTHING_BEFORE) where {T}
    scale, pull, stay = T.(values(before))
    rate, keep, eps = T(rule.rate), T(rule.momentum), T(rule.eps)
    alpha, weight = T(rule.alpha), T(1 - rule.alpha)
    parallel(length(p), LEAST_ELEMENTS) do _, range
        @inbounds @simd ivdep for k in range
            d = scale * g[k] + pull * p[k]
            square_avg[k] = alpha * square_avg[k] + weight * d * d
            momentum[k] = keep * momentum[k] + d / (sqrt(square_avg[k]) + eps)
            p[k] = stay * p[k] - rate * momentum[k]
        end
    end
end

function update!(
    rule::TensorFlowRMSProp, (; momentum, square_avg), p::Array{T}, g, before=NOTHING_BEFORE
) where {T}
    scale, pull, stay = T.(values(before))
    rate, keep, eps = T(rule.rate), T(rule.momentum), T(rule.eps)
    alpha, weight = T(rule.alpha), T(1 - rule.alpha)
    parallel(length(p), LEAST_ELEMENTS) do _, range
        @inbounds @simd ivdep for k in range
            d = scale * g[k] + pull * p[k]
            square_avg[k] = alpha * square_avg[k] + weight * d * d
            momentum[k] = keep * momentum[k] + rate * d / sqrt(square_avg[k] + eps)
            p[k] = stay * p[k] - momentum[k]
        end
    end
end

"The rule of a step, which counts from 1."
function rule(config::TrainConfig, rate, step)
    (; optimizer, momentum, alpha, eps) = config
    optimizer == "sgd" && return HeavyBall(rate, momentum, config.nesterov)
    optimizer == "rmsprop" && return TorchRMSProp(rate, momentum, alpha, eps)
    optimizer == "rmsprop_tf" &&
        return TensorFlowRMSProp(rate, momentum, alpha, eps, config.initial_square_avg)
    return TorchAdam(rate, config.beta1, config.beta2, eps, step)
end

"What comes before the rule for the parameter `p`, where the gradients are clipped by `scale`."
function before(config::TrainConfig, rate, scale, p)
    decay = config.decay_all || ndims(p) > 1 ? config.weight_decay : 0.0
    config.optimizer == "adamw" && return (; scale, pull=0.0, stay=1 - rate * decay)
    return (; scale, pull=decay, stay=1.0)
end

"""
The factor that brings the norm of all gradients together down to `largest`, at most 1; 0 is no limit. As
torch's `clip_grad_norm_`, with its 1e-6 beside the norm, which is summed in `Float64`.
"""
function clip_factor(gradients, largest)
    largest == 0 && return 1.0
    total = sum(gradient -> sum(value -> abs2(Float64(value)), gradient), gradients)
    return min(1.0, largest / (sqrt(total) + 1e-6))
end

"Move a running average of the parameter `p` towards it: `ema += (1 - decay) * (p - ema)`."
function average!(ema, p::Array{T}, decay) where {T}
    weight = T(1 - decay)
    parallel(length(p), LEAST_ELEMENTS) do _, range
        @inbounds @simd ivdep for k in range
            ema[k] += weight * (p[k] - ema[k])
        end
    end
end

"""
What is kept for each parameter, by the names in a weight file, sorted: the average of the parameters, then
the moments of the rule. Where there is nothing to keep, no steps are counted.
"""
function slots(config::TrainConfig)
    average = config.ema_decay > 0 ? ["ema"] : String[]
    config.optimizer in ("adam", "adamw") && return [average; "exp_avg"; "exp_avg_sq"]
    momentum = config.momentum > 0 ? ["momentum"] : String[]
    return config.optimizer == "sgd" ? [average; momentum] : [average; momentum; "square_avg"]
end
