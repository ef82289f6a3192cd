"""
    predict(model, x; workspace=Workspace())

Logits (classes, N) in evaluation mode, for images `x` (W, H, C, N) of the model's type; probabilities,
where the config has a softmax. A [`Workspace`](@ref) that is kept from call to call spares the time to
get new memory; the result is no part of it. Throws a `DataError` for images of another size or type, or
not finite.
"""
function predict(model::MobileNet, x; workspace=Workspace())
    x = checked_images(model, x)
    reset!(workspace, size(x))
    scores = evaluate(model, x, workspace)
    return model.config.softmax ? softmax(scores) : copy(scores)
end

"Logits in evaluation mode, of which nobody asks a gradient: maps take the place of earlier ones."
evaluate(model, x, room=Workspace()) = logits(model, x, new_pass(model, room; train=false))

"""
    activations(model, x; train=false, masks=nothing)

Every activation by its canonical name, in the order they are computed: maps (W, H, C, N), then `pool`
(C, N), `logits` (classes, N) and, where the config has a softmax, `probabilities`. With `train`, norms
use the batch's statistics; the running ones stay as they are. Throws a `DataError` as `predict` and
[`loss_and_grads`](@ref) do.
"""
function activations(model::MobileNet, x; train=false, masks=nothing)
    x = checked_images(model, x)
    train && check_trainable(model, x)
    wanted = Set(activation_names(model.config))
    found = NamedArrays()
    tap(name, array) = name in wanted && push!(found, name => array)
    masks = checked_masks(model, masks, x)
    run_forward(model, x, new_pass(model, Workspace(); train, masks, tap))
    return found
end

"""
    loss_and_grads(model, x, labels; masks=nothing, workspace=Workspace())

Mean cross-entropy (`Float64`) in training mode, and its gradient by canonical name in the order of
`parameter_shapes`. The model stays as it was: no running statistic moves. With a [`Workspace`](@ref) that is
kept, the gradients are valid until the next call with it.

`x` are images (W, H, C, N) of the model's type, `labels` N integers in [0, classes), or (classes, N) of the
model's type, a distribution in each column. `masks`, where given, is a `Dict` of `"<unit>.act"` => `UInt8`
(W, H, C, N), the piece of the activation each value is to be treated as being on (0: the constant 0, 1: the
identity, 2: the constant 6), for units that have an activation, and of `"dropout"` => (C, N), factors for
the pooled features; without it none is dropped.

Throws a `DataError` for images, labels or masks of another size, type or range, and where a norm would
see one value per channel.

```jldoctest
julia> model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> loss, gradients = loss_and_grads(model, zeros(Float32, 32, 32, 3, 2), [3, 7]);

julia> loss ≈ log(10), first(gradients[1])
(true, "stem.conv.weight")
```
"""
function loss_and_grads(model::MobileNet, x, labels; masks=nothing, workspace=Workspace())
    loss, gradients, _ = backpropagate(model, x, labels, masks, workspace)
    return loss, named(model.config, gradients)
end

"""
Loss, its gradients in the order of `parameter_shapes`, and the batch's mean and variance for each unit,
after all checks, in arrays of `room`.

A model is a chain of blocks, so its gradient is the pullbacks of its parts in reverse; the tape holds
them. Only a residual block has two ways through it, whose gradients are added where they meet.
The same as `Flux.gradient`'s, bit for bit, without the minutes that Zygote's code takes to compile.
"""
function backpropagate(model::MobileNet, x, labels, masks, room)
    x = checked_images(model, x)
    labels = checked_labels(model, labels, size(x, 4))
    check_trainable(model, x)
    reset!(room, size(x))
    tape = Any[]
    pass = new_pass(model, room; train=true, masks=checked_masks(model, masks, x), tape)
    scores = logits(model, x, pass)
    loss = apply(pass, cross_entropy, scores, labels)
    back(gradient) = pop!(tape)(gradient)[2:end]
    gradient, = back(1.0)
    gradient, weight, bias = back(gradient) # classifier
    gradients = Array[bias, weight] # in reverse
    gradient, = back(gradient) # dropout
    _, gradient = back(gradient) # pool
    for group in Iterators.reverse(unit_groups(model))
        around = nothing # of a residual block's input, by way of the sum
        for unit in Iterators.reverse(group)
            unit.residual && ((_, gradient, around) = back(gradient))
            _, before, weight, scale, bias = back((gradient,))
            gradient === around || release!(room, gradient)
            gradient = unit === model.stem ? before : unthunk(before) # that of the images stays a thunk
            push!(gradients, bias, scale, weight)
        end
        isnothing(around) || (gradient .+= around; release!(room, around))
    end
    return loss, reverse!(gradients), pass.statistics
end
