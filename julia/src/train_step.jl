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
    train_step!(model, optimizer, x, labels, rate; masks=nothing, workspace=nothing, processes=Processes())

One step of training with `rate`: what [`loss_and_grads`](@ref) gives, and parameters, moments and running
statistics moved on. Where the optimizer's `accumulate` is not 1, the means over so many parts of the batch,
one after the other; running statistics move with each. With a [`Workspace`](@ref) its arrays are used again,
and the gradients are valid until the next step with it.

Several [`Processes`](@ref) call this with the same arguments. Each computes its own share of every part; loss
and gradients are the means over all, and running statistics those of the first.

Throws a `ConfigError` for a rate that is negative or not finite, a `DataError` for images that do not go into
equal parts.
"""
function train_step!(
    model::MobileNet, optimizer::Optimizer, x, labels, rate;
    masks=nothing, workspace=nothing, processes=Processes(),
)
    rate isa Real && isfinite(rate) && rate >= 0 ||
        throw(ConfigError("rate must be a finite number, at least 0. Received: $(repr(rate))"))
    room = something(workspace, Workspace())
    (; config) = optimizer
    found = parts(model, x, labels, masks, config.accumulate, processes)
    loss, gradients = backpropagate_parts!(model, found, room)
    loss, = mean!(processes, [loss])
    foreach(gradient -> mean!(processes, gradient), gradients)
    for (; norm) in units(model)
        hand_out!(processes, norm.running_mean)
        hand_out!(processes, norm.running_var)
    end
    optimizer.step[] += 1
    now, scale = rule(config, rate, optimizer.step[]), clip_factor(gradients, config.clip_norm)
    for (kept, p, gradient) in zip(optimizer.moments, parameters(model), gradients)
        update!(now, kept, p, gradient, before(config, rate, scale, p))
        config.ema_decay > 0 && average!(kept.ema, p, config.ema_decay)
    end
    return loss, named(model.config, gradients)
end

"""
The mean loss of `parts` of a batch, and the mean of its gradients, in arrays of `room`; each part moves the
running statistics by its own.
"""
function backpropagate_parts!(model::MobileNet{T}, parts, room) where {T}
    loss, gradients, count = 0.0, Array[], length(parts)
    for (k, part) in enumerate(parts)
        of_part, gradients, statistics = backpropagate(model, part..., room)
        loss += of_part / count
        move_statistics!(model, statistics, first(part))
        count == 1 && continue
        gradients = map(parameters(model), gradients) do p, gradient
            total = sum_like(room, p)
            k == 1 ? (@. total = gradient / $T(count)) : (@. total += gradient / $T(count))
        end
    end
    return loss, gradients
end

"""
This process' shares (images, labels, masks) of a batch's `count` equal consecutive parts, after all checks;
the whole batch, where that is one.
"""
function parts(model, x, labels, masks, count, processes)
    shares = count * processes.count
    shares == 1 && return [(x, labels, masks)]
    x = checked_images(model, x)
    images = size(x, 4)
    labels, masks = checked_labels(model, labels, images), checked_masks(model, masks, x)
    images % shares == 0 || throw(DataError(
        "images must go into $shares equal parts, the optimizer's accumulate times the processes. " *
        "Received: $images images"
    ))
    cut(array, range) = copy(selectdim(array, ndims(array), range))
    cut(::Nothing, _) = nothing
    cut(found::Dict, range) = Dict{String,Array}(name => cut(mask, range) for (name, mask) in found)
    own = (processes.rank + 1):(processes.count):shares
    ranges = collect(Iterators.partition(1:images, images ÷ shares))[own]
    return Iterators.map(range -> map(whole -> cut(whole, range), (x, labels, masks)), ranges)
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
