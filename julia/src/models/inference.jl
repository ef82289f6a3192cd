"""
    predict(model, x; workspace=Workspace())

The logits (classes, N) in evaluation mode, or the probabilities if the config has a softmax, for images `x`
(W, H, C, N) of the element type of the model. With the same [`Workspace`](@ref) in every call, fewer arrays are
allocated; the result is always a new array.

Throws a `DataError` for images of another size or type, or with values that are not finite.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> size(predict(model, zeros(Float32, 32, 32, 3, 2)))
(10, 2)
```
"""
function predict(model::MobileNet, x; workspace=Workspace())
    x = checked_images(model, x)
    Kernels.reset!(workspace, size(x))
    scores = eval_logits(model, x, workspace)
    return model.config.softmax ? softmax(scores) : copy(scores)
end

"The logits in evaluation mode, without gradient: maps are overwritten by later ones."
eval_logits(model, x, workspace=Workspace()) = logits(model, x, new_pass(model, workspace; train=false))

"""
    activations(model, x; train=false, masks=nothing)

All activations, a vector of canonical name => array in the order of [`activation_names`](@ref): maps
(W, H, C, N), then `pool` (C, N), `logits` (classes, N) and, with softmax, `probabilities`. With `train`, norms use
the statistics of the batch; the running statistics do not change. `masks` are those of [`loss_and_grads`](@ref).

Throws a `DataError` as `predict` and `loss_and_grads` do.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> name, maps = first(activations(model, zeros(Float32, 32, 32, 3, 2)));

julia> name, size(maps)
("stem.conv", (16, 16, 8, 2))
```
"""
function activations(model::MobileNet, x; train=false, masks=nothing)
    x = checked_images(model, x)
    train && check_trainable(model, x)
    names = Set(activation_names(model.config))
    recorded = NamedArrays()
    hook(name, array) = name in names && push!(recorded, name => array)
    masks = checked_masks(model, masks, x)
    run_forward(model, x, new_pass(model, Workspace(); train, masks, hook))
    return recorded
end

"""
    loss_and_grads(model, x, labels; masks=nothing, workspace=Workspace())

The mean cross-entropy (`Float64`) in training mode, and its gradients, a vector of canonical name => array in the
order of [`parameter_shapes`](@ref). The model does not change, its running statistics included.

# Arguments

- `x`: images (W, H, C, N) of the element type of the model.
- `labels`: N integers in [0, classes), or a matrix (classes, N) of the element type of the model with a
  distribution in each column.
- `masks`: a `Dict` of activation masks: `"<unit>.act"` => `UInt8` (W, H, C, N), the linear piece of the activation
  for each value (0: the constant 0, 1: the identity, 2: the constant 6), for units with an activation; and
  `"dropout"` => (C, N), the factors of the pooled features. Without `"dropout"`, no feature is dropped.
- `workspace`: a [`Workspace`](@ref), whose gradients are valid until the next call with it, or a
  [`DeviceWorkspace`](@ref).

Throws a `DataError` for images, labels or masks of another size, type or range, and if a norm would have only one
value per channel.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> loss, gradients = loss_and_grads(model, zeros(Float32, 32, 32, 3, 2), [3, 7]);

julia> loss ≈ log(10), first(gradients[1])
(true, "stem.conv.weight")
```
"""
function loss_and_grads(model::MobileNet, x, labels; masks=nothing, workspace=Workspace())
    loss, gradients, _ = backpropagate(model, x, labels, masks, workspace)
    return loss, with_names(model.config, gradients)
end

"""
The loss, its gradients in the order of `parameter_shapes`, and the batch's mean and variance of each unit, after all
checks, in arrays of `workspace`.

A model is a chain of blocks, so its gradient is the pullbacks of the forward pass in reverse, which the tape holds.
Only in a residual block are there two paths, whose gradients are added. The result equals `Flux.gradient`'s to the
bit, without the minutes that Zygote's code takes to compile.
"""
function backpropagate(model::MobileNet, x, labels, masks, workspace)
    x = checked_images(model, x)
    labels = checked_labels(model, labels, size(x, 4))
    check_trainable(model, x)
    Kernels.reset!(workspace, size(x))
    tape = Any[]
    pass = new_pass(model, workspace; train=true, masks=checked_masks(model, masks, x), tape)
    scores = logits(model, x, pass)
    loss = taped_call(pass, cross_entropy, scores, labels)
    back(gradient) = pop!(tape)(gradient)[2:end]
    gradient, = back(1.0)
    gradients = Array[] # in reverse
    gradient = classifier_gradients!(gradients, back, gradient)
    unit_gradients!(gradients, unit_groups(model), back, gradient, workspace)
    return loss, reverse!(gradients), pass.statistics
end

"Append the gradients of the classifier in reverse, and return that of the maps before the pooling."
function classifier_gradients!(gradients, back, gradient)
    gradient, weight, bias = back(gradient)
    push!(gradients, bias, weight)
    gradient, = back(gradient) # dropout
    _, gradient = back(gradient) # pool
    return gradient
end

"""
Append the gradients of the units in reverse, and return that of the maps before them. That of the first unit may be a
thunk, which is not computed if nobody reads it.
"""
function unit_gradients!(gradients, groups, back, gradient, workspace)
    for group in Iterators.reverse(groups)
        skip_gradient = nothing # of a residual block's input, through the sum
        for unit in Iterators.reverse(group)
            gradient = unthunk(gradient)
            unit.residual && ((_, gradient, skip_gradient) = back(gradient))
            _, input_gradient, weight, scale, bias = back((gradient,))
            gradient === skip_gradient || release!(workspace, gradient)
            gradient = input_gradient
            push!(gradients, bias, scale, weight)
        end
        if !isnothing(skip_gradient)
            gradient = unthunk(gradient)
            gradient .+= skip_gradient
            release!(workspace, skip_gradient)
        end
    end
    return gradient
end
