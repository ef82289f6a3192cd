# A training step, and the optimizer that it updates.

"""
The optimizer of a model: its config, the slots of each parameter in the order of `parameter_shapes` (those of the
rule and, if the config requires it, the moving average `ema`), and the number of steps taken.
"""
struct Optimizer
    config::TrainConfig
    slots::Vector{NamedTuple}
    step::Array{Int64,0}
end

"""
    setup_optimizer(config::TrainConfig, model)

An optimizer for [`train_step!`](@ref), with initial slots and no steps taken. `optimizer.step[]` is the number of
steps; [`get_state`](@ref) and [`set_state!`](@ref) read and write the slots.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> optimizer = setup_optimizer(TrainConfig(optimizer=:adam), model);

julia> first(last(get_state(model, optimizer)))
"optimizer.step"
```
"""
function setup_optimizer(config::TrainConfig, model::MobileNet)
    rule = update_rule(config, config.rate, 1)
    average(p) = config.ema_decay > 0 ? (ema=copy(p),) : (;)
    slots = NamedTuple[(; initial_slots(rule, p)..., average(p)...) for p in parameters(model)]
    return Optimizer(config, slots, fill(0))
end

function Models.get_state(model::MobileNet, optimizer::Optimizer)
    state = get_state(model)
    names = first.(parameter_shapes(model.config))
    for slot in slot_names(optimizer.config), (name, slots) in zip(names, optimizer.slots)
        push!(state, "optimizer.$slot.$name" => slots[Symbol(slot)])
    end
    isempty(slot_names(optimizer.config)) || push!(state, OPTIMIZER_STEP => optimizer.step)
    return state
end

"""
    averaged(state)

A state, as a `Dict` of name => array, whose parameters are the moving averages of `state`, any iterable of name =>
array; without slots. Running statistics are unchanged. `set_state!(model, averaged(get_state(model, optimizer)))`
sets a model to the averages. Throws a `ConfigError` for a state without averages.
"""
function averaged(state)
    tensors = Dict{String,Array}(state)
    any(startswith("optimizer.ema."), keys(tensors)) || throw(ConfigError(
        "the state holds no averages: train with ema_decay. Received: moments $(slots_of(tensors))"
    ))
    names = filter(!startswith("optimizer."), keys(tensors))
    return Dict{String,Array}(name => get(tensors, "optimizer.ema.$name", tensors[name]) for name in names)
end

function Models.set_state!(model::MobileNet, optimizer::Optimizer, state)
    own, config = get_state(model, optimizer), optimizer.config
    return replace_state!(model, own, state, slot_names(config), config.optimizer)
end

"""
    train_step!(model, optimizer, x, labels, rate; masks=nothing, workspace=nothing, processes=Processes())

Take one training step with learning rate `rate`: returns loss and gradients as [`loss_and_grads`](@ref) does, and
updates parameters, optimizer slots and running statistics.

If the `accumulate` of the optimizer's config is not 1, loss and gradients are the means over that many micro-batches,
computed one after the other; each updates the running statistics. With a [`Workspace`](@ref) its arrays are reused, and
the gradients are valid until the next call with it.

Several [`Processes`](@ref) call this with the same arguments. Each computes its shard of every micro-batch; loss and
gradients are the means over all processes, and the running statistics are those of the first.

Throws a `ConfigError` for a rate that is negative or not finite, and a `DataError` as `loss_and_grads` does, and if the
images cannot be divided into equal micro-batches and shards.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> optimizer = setup_optimizer(TrainConfig(), model);

julia> loss, gradients = train_step!(model, optimizer, zeros(Float32, 32, 32, 3, 2), [3, 7], 0.1);

julia> loss ≈ log(10), optimizer.step[]
(true, 1)
```
"""
function train_step!(
    model::MobileNet, optimizer::Optimizer, x, labels, rate;
    masks=nothing, workspace=nothing, processes=Processes(),
)
    rate isa Real && isfinite(rate) && rate >= 0 ||
        throw(ConfigError("rate must be a finite number, at least 0. Received: $(repr(rate))"))
    workspace = something(workspace, Workspace())
    (; config) = optimizer
    batches = micro_batches(model, x, labels, masks, config.accumulate, processes)
    loss, gradients = backpropagate_micro_batches!(model, batches, workspace)
    loss, = all_mean!(processes, [loss])
    foreach(gradient -> all_mean!(processes, gradient), gradients)
    for (; norm) in units(model)
        bcast!(processes, norm.running_mean)
        bcast!(processes, norm.running_var)
    end
    optimizer.step[] += 1
    rule = update_rule(config, rate, optimizer.step[])
    gradient_scale = clip_factor(gradients, config.clip_norm)
    for (slots, p, gradient) in zip(optimizer.slots, parameters(model), gradients)
        update!(rule, slots, p, gradient, decay_factors(config, rate, gradient_scale, p))
        config.ema_decay > 0 && update_average!(slots.ema, p, config.ema_decay)
    end
    return loss, with_names(model.config, gradients)
end

"""
The mean loss of the micro-batches and the mean of its gradients, in arrays of `workspace`. Each micro-batch updates the
running statistics.
"""
function backpropagate_micro_batches!(model::MobileNet{T}, batches, workspace) where {T}
    loss, gradients, count = 0.0, Array[], length(batches)
    for (k, batch) in enumerate(batches)
        batch_loss, gradients, statistics = backpropagate(model, batch..., workspace)
        loss += batch_loss / count
        update_running_statistics!(units(model), statistics, size(first(batch)))
        count == 1 && continue
        gradients = map(parameters(model), gradients) do p, gradient
            total = sum_array(workspace, p)
            k == 1 ? (@. total = gradient / $T(count)) : (@. total += gradient / $T(count))
        end
    end
    return loss, gradients
end

"""
The shards (images, labels, masks) of this process of the `count` equal consecutive micro-batches of a batch, after all
checks; the whole batch, unchecked, if that is the only shard.
"""
function micro_batches(model, x, labels, masks, count, processes)
    shards = count * processes.count
    shards == 1 && return [(x, labels, masks)]
    x = checked_images(model, x)
    images = size(x, 4)
    labels, masks = checked_labels(model, labels, images), checked_masks(model, masks, x)
    images % shards == 0 || throw(DataError(
        "the number of images must be a multiple of $shards, the optimizer's accumulate times the number of " *
        "processes. Received: $images images"
    ))
    slice(array, range) = copy(selectdim(array, ndims(array), range))
    slice(::Nothing, _) = nothing
    slice(masks::Dict, range) = Dict{String,Array}(name => slice(mask, range) for (name, mask) in masks)
    own = (processes.rank + 1):(processes.count):shards
    ranges = collect(Iterators.partition(1:images, images ÷ shards))[own]
    return Iterators.map(range -> map(values -> slice(values, range), (x, labels, masks)), ranges)
end
