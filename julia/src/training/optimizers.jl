# Optimizers by the formulas of docs/training.md, in place, with the results of torch. Those of Optimisers.jl differ:
# Momentum multiplies the rate into the velocity, Adam has Float32 betas. Scalars are computed in `Float64` and rounded
# once to the element type of the parameters.

"`v = momentum * v + g; p -= rate * v`; with `nesterov` `p -= rate * (g + momentum * v)`."
struct TorchSGD
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

"Tieleman & Hinton, Coursera lecture 6.5 (2012), with `eps` outside the root, the rate applied after the momentum."
struct TorchRMSProp
    rate::Float64
    momentum::Float64
    alpha::Float64
    eps::Float64
end

"RMSprop of TensorFlow and Keras: `eps` inside the root, the rate applied before the momentum."
struct TensorFlowRMSProp
    rate::Float64
    momentum::Float64
    alpha::Float64
    eps::Float64
    initial_square_avg::Float64
end

"The initial slots of a rule for a parameter `p`."
initial_slots(::TorchSGD, p) = (momentum=zero(p),)
initial_slots(::TorchAdam, p) = (exp_avg=zero(p), exp_avg_sq=zero(p))
initial_slots(::TorchRMSProp, p) = (momentum=zero(p), square_avg=zero(p))
initial_slots(rule::TensorFlowRMSProp, p) =
    (momentum=zero(p), square_avg=fill!(similar(p), rule.initial_square_avg))

"""
Factors of clipping and weight decay: the rule sees the gradient `gradient_scale * g + l2 * p`, and the parameter
`parameter_scale * p` (the decoupled decay of AdamW).
"""
const NO_DECAY = (gradient_scale=1.0, l2=0.0, parameter_scale=1.0)

"The least number of elements of a parameter for which another thread pays off."
const MIN_ELEMENTS_PER_THREAD = 2^14

"Update `p` and its slots by the gradient `g`, which does not change."
function update!(rule::TorchSGD, (; momentum), p::Array{T}, g, factors=NO_DECAY) where {T}
    gradient_scale, l2, parameter_scale = T.(values(factors))
    rate, decay = T(rule.rate), T(rule.momentum)
    momentum_weight, gradient_weight = rule.nesterov ? (decay, one(T)) : (one(T), zero(T))
    parallel(length(p), MIN_ELEMENTS_PER_THREAD) do _, range
        @inbounds @simd ivdep for k in range
            d = gradient_scale * g[k] + l2 * p[k]
            momentum[k] = decay * momentum[k] + d
            p[k] = parameter_scale * p[k] - rate * (momentum_weight * momentum[k] + gradient_weight * d)
        end
    end
end

function update!(rule::TorchAdam, (; exp_avg, exp_avg_sq), p::Array{T}, g, factors=NO_DECAY) where {T}
    gradient_scale, l2, parameter_scale = T.(values(factors))
    first_weight, second_weight = T(1 - rule.beta1), T(1 - rule.beta2)
    beta2, eps = T(rule.beta2), T(rule.eps)
    rate = T(rule.rate / (1 - rule.beta1^rule.step))
    correction = T(sqrt(1 - rule.beta2^rule.step))
    parallel(length(p), MIN_ELEMENTS_PER_THREAD) do _, range
        @inbounds @simd ivdep for k in range
            d = gradient_scale * g[k] + l2 * p[k]
            exp_avg[k] += first_weight * (d - exp_avg[k])
            exp_avg_sq[k] = beta2 * exp_avg_sq[k] + second_weight * d * d
            p[k] = parameter_scale * p[k] - rate * exp_avg[k] / (sqrt(exp_avg_sq[k]) / correction + eps)
        end
    end
end

function update!(rule::TorchRMSProp, (; momentum, square_avg), p::Array{T}, g, factors=NO_DECAY) where {T}
    gradient_scale, l2, parameter_scale = T.(values(factors))
    rate, decay, eps = T(rule.rate), T(rule.momentum), T(rule.eps)
    alpha, weight = T(rule.alpha), T(1 - rule.alpha)
    parallel(length(p), MIN_ELEMENTS_PER_THREAD) do _, range
        @inbounds @simd ivdep for k in range
            d = gradient_scale * g[k] + l2 * p[k]
            square_avg[k] = alpha * square_avg[k] + weight * d * d
            momentum[k] = decay * momentum[k] + d / (sqrt(square_avg[k]) + eps)
            p[k] = parameter_scale * p[k] - rate * momentum[k]
        end
    end
end

function update!(
    rule::TensorFlowRMSProp, (; momentum, square_avg), p::Array{T}, g, factors=NO_DECAY
) where {T}
    gradient_scale, l2, parameter_scale = T.(values(factors))
    rate, decay, eps = T(rule.rate), T(rule.momentum), T(rule.eps)
    alpha, weight = T(rule.alpha), T(1 - rule.alpha)
    parallel(length(p), MIN_ELEMENTS_PER_THREAD) do _, range
        @inbounds @simd ivdep for k in range
            d = gradient_scale * g[k] + l2 * p[k]
            square_avg[k] = alpha * square_avg[k] + weight * d * d
            momentum[k] = decay * momentum[k] + rate * d / sqrt(square_avg[k] + eps)
            p[k] = parameter_scale * p[k] - momentum[k]
        end
    end
end

"The rule of a step; steps count from 1."
function update_rule(config::TrainConfig, rate, step)
    (; optimizer, momentum, alpha, eps) = config
    optimizer == "sgd" && return TorchSGD(rate, momentum, config.nesterov)
    optimizer == "rmsprop" && return TorchRMSProp(rate, momentum, alpha, eps)
    optimizer == "rmsprop_tf" &&
        return TensorFlowRMSProp(rate, momentum, alpha, eps, config.initial_square_avg)
    return TorchAdam(rate, config.beta1, config.beta2, eps, step)
end

"The factors of clipping, by `gradient_scale`, and weight decay for the parameter `p`."
function decay_factors(config::TrainConfig, rate, gradient_scale, p)
    decay = config.decay_all || ndims(p) > 1 ? config.weight_decay : 0.0
    config.optimizer == "adamw" && return (; gradient_scale, l2=0.0, parameter_scale=1 - rate * decay)
    return (; gradient_scale, l2=decay, parameter_scale=1.0)
end

"""
The factor, at most 1, that limits the norm of all gradients together to `max_norm`; 0 is no limit. Torch's
`clip_grad_norm_`, which adds 1e-6 to the norm; the norm is summed in `Float64`.
"""
function clip_factor(gradients, max_norm)
    max_norm == 0 && return 1.0
    total = sum(gradient -> sum(value -> abs2(Float64(value)), gradient), gradients)
    return min(1.0, max_norm / (sqrt(total) + 1e-6))
end

"Update the moving average of the parameter `p`: `ema += (1 - decay) * (p - ema)`."
function update_average!(ema, p::Array{T}, decay) where {T}
    weight = T(1 - decay)
    parallel(length(p), MIN_ELEMENTS_PER_THREAD) do _, range
        @inbounds @simd ivdep for k in range
            ema[k] += weight * (p[k] - ema[k])
        end
    end
end

"""
The names of the slots of an optimizer in a weight file, sorted: the moving average of the parameters, then the slots
of the rule. The state of an optimizer without slots has no step count.
"""
function slot_names(config::TrainConfig)
    average = config.ema_decay > 0 ? ["ema"] : String[]
    config.optimizer in ("adam", "adamw") && return [average; "exp_avg"; "exp_avg_sq"]
    momentum = config.momentum > 0 ? ["momentum"] : String[]
    return config.optimizer == "sgd" ? [average; momentum] : [average; momentum; "square_avg"]
end
