# One step of training, and what it needs besides the model.

"""
What `train_step!` needs besides the model: a config, what is kept for each parameter (what its rule keeps
and, where the config asks for one, the average `ema`) in the order of `parameter_shapes`, and the number of
steps taken.
"""
struct Optimizer
    config::TrainConfig
    moments::Vector{NamedTuple}
    step::Array{Int64,0}
end

"""
    setup(config::TrainConfig, model)

An optimizer for `train_step!`, with all moments at their start and no step taken.
"""
function setup(config::TrainConfig, model::MobileNet)
    first_rule = rule(config, config.rate, 1)
    average(p) = config.ema_decay > 0 ? (ema=copy(p),) : (;)
    kept = NamedTuple[(; moments(first_rule, p)..., average(p)...) for p in parameters(model)]
    return Optimizer(config, kept, fill(0))
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

"""
    averaged(state)

A state (anything that yields name => array) with the running averages of the parameters in their place, and
without moments: what `set_state!(model, averaged(get_state(model, optimizer)))` evaluates. Running
statistics are the model's own. Throws a `ConfigError` for a state that holds no averages.
"""
function averaged(state)
    found = Dict{String,Array}(state)
    any(startswith("optimizer.ema."), keys(found)) || throw(ConfigError(
        "the state holds no averages: train with ema_decay. Received: moments $(slots_of(found))"
    ))
    own = filter(!startswith("optimizer."), keys(found))
    return Dict{String,Array}(name => get(found, "optimizer.ema.$name", found[name]) for name in own)
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
    (; config) = optimizer
    now, scale = rule(config, rate, optimizer.step[]), clip_factor(gradients, config.clip_norm)
    for (kept, p, gradient) in zip(optimizer.moments, parameters(model), gradients)
        update!(now, kept, p, gradient, before(config, rate, scale, p))
        config.ema_decay > 0 && average!(kept.ema, p, config.ema_decay)
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
