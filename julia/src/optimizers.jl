# Optimizers by their formulas, as torch computes them, in place. Optimisers.Momentum folds the rate into the
# velocity and Optimisers.Adam takes its betas in Float32, so both drift away from torch's.

"`v = momentum * v + g; p -= rate * v`."
struct HeavyBall
    rate::Float64
    momentum::Float64
end

"""
Kingma & Ba, arXiv:1412.6980, algorithm 1, with `eps` added outside the root. `step` counts from 1.
Scalars are computed in `Float64` and rounded once to the type of the parameters.
"""
struct TorchAdam
    rate::Float64
    beta1::Float64
    beta2::Float64
    eps::Float64
    step::Int
end

"What a rule keeps for a parameter `p`, at zero."
moments(::HeavyBall, p) = (momentum=zero(p),)
moments(::TorchAdam, p) = (exp_avg=zero(p), exp_avg_sq=zero(p))

"Elements of a parameter that are worth a thread."
const LEAST_ELEMENTS = 2^14

"Move `p` and its moments by the gradient `g`."
function update!(rule::HeavyBall, (; momentum), p::Array{T}, g) where {T}
    rate, keep = T(rule.rate), T(rule.momentum)
    parallel(length(p), LEAST_ELEMENTS) do _, range
        @inbounds @simd ivdep for k in range
            momentum[k] = keep * momentum[k] + g[k]
            p[k] -= rate * momentum[k]
        end
    end
end

function update!(rule::TorchAdam, (; exp_avg, exp_avg_sq), p::Array{T}, g) where {T}
    first_weight, second_weight = T(1 - rule.beta1), T(1 - rule.beta2)
    beta2, eps = T(rule.beta2), T(rule.eps)
    rate = T(rule.rate / (1 - rule.beta1^rule.step))
    correction = T(sqrt(1 - rule.beta2^rule.step))
    parallel(length(p), LEAST_ELEMENTS) do _, range
        @inbounds @simd ivdep for k in range
            exp_avg[k] += first_weight * (g[k] - exp_avg[k])
            exp_avg_sq[k] = beta2 * exp_avg_sq[k] + second_weight * g[k] * g[k]
            p[k] -= rate * exp_avg[k] / (sqrt(exp_avg_sq[k]) / correction + eps)
        end
    end
end

rule(config::TrainConfig, rate, step) =
    if config.optimizer == "sgd"
        HeavyBall(rate, config.momentum)
    else
        TorchAdam(rate, config.beta1, config.beta2, config.eps, step)
    end

"""
The moments the optimizer keeps for each parameter, by their names in a weight file, sorted. SGD
without momentum keeps none, and counts no steps.
"""
function slots(config::TrainConfig)
    config.optimizer == "sgd" || return ["exp_avg", "exp_avg_sq"]
    return config.momentum > 0 ? ["momentum"] : String[]
end

"""
What `train_step!` needs besides the model: a config, what its rule keeps for each parameter
in the order of `parameter_shapes`, and the number of steps taken.
"""
struct Optimizer
    config::TrainConfig
    moments::Vector{NamedTuple}
    step::Array{Int64,0}
end

"""
    setup(config::TrainConfig, model)

An optimizer for `train_step!`, with all moments at zero and no step taken.
"""
function setup(config::TrainConfig, model::MobileNet)
    first_rule = rule(config, config.rate, 1)
    return Optimizer(config, [moments(first_rule, p) for p in parameters(model)], fill(0))
end

function get_state(model::MobileNet, optimizer::Optimizer)
    state = get_state(model)
    names = first.(parameter_shapes(model.config))
    for slot in slots(optimizer.config), (name, moments) in zip(names, optimizer.moments)
        push!(state, "optimizer.$slot.$name" => moments[Symbol(slot)])
    end
    isempty(slots(optimizer.config)) || push!(state, OPTIMIZER_STEP => optimizer.step)
    return state
end

function set_state!(model::MobileNet, optimizer::Optimizer, state)
    own, config = get_state(model, optimizer), optimizer.config
    return replace_state!(model, own, state, slots(config), config.optimizer)
end

"""
    train_step!(model, optimizer, x, labels, rate; masks=nothing, workspace=nothing)

One step of training with `rate`: what [`loss_and_grads`](@ref) gives, and parameters, moments and running
statistics moved on. With a [`Workspace`](@ref) its arrays are used again, and the gradients are valid until
the next step with it. Throws a `ConfigError` for a rate that is negative or not finite.
"""
function train_step!(
    model::MobileNet, optimizer::Optimizer, x, labels, rate; masks=nothing, workspace=nothing
)
    rate isa Real && isfinite(rate) && rate >= 0 ||
        throw(ConfigError("rate must be a finite number, at least 0. Received: $(repr(rate))"))
    room = something(workspace, Workspace())
    reset!(room)
    loss, gradients, statistics = backpropagate(model, x, labels, masks, room)
    optimizer.step[] += 1
    now = rule(optimizer.config, rate, optimizer.step[])
    for (kept, p, gradient) in zip(optimizer.moments, parameters(model), gradients)
        update!(now, kept, p, gradient)
    end
    move_statistics!(model, statistics, x)
    return loss, named(model.config, gradients)
end

"""
Move the running statistics towards the batch's: `(1 - momentum) * running + momentum * batch`, with
the unbiased variance m / (m - 1), m being the number of values in a channel.
"""
function move_statistics!(model, statistics, x)
    columns, rows, _, images = size(x)
    for (layer, unit, (mean, var)) in zip(layers(model.config), units(model), statistics)
        columns, rows = output_size(layer, columns), output_size(layer, rows)
        count, norm = columns * rows * images, unit.norm
        move!(norm.running_mean, mean, norm.momentum, 1)
        unbias = count / (count - 1)
        move!(norm.running_var, var, norm.momentum, unbias)
    end
end

move!(running, new, momentum, factor) =
    @. running = (1 - momentum) * running + momentum * (factor * new)
