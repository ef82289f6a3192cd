"""
    fit!(model, images, labels, config::TrainConfig; mean, std, callback, optimizer, start=0, processes=Processes(),
         workspace=Workspace())

Train a model for `config.steps` steps with the rates of [`rate_at`](@ref), and return the loss of each step, a
`Vector{Float64}`.

# Arguments

- `images`, `labels`: the data set, `UInt8` (W, H, C, N) and class numbers (N,) from 0. Batches and augmentation are
  those of [`BatchPlan`](@ref), the same bits as in Python. With mixup or label smoothing, labels become target
  distributions.
- `mean`, `std`: for [`normalise_images`](@ref); by default those of `config.preprocessing`, where `:standard` is that
  of CIFAR-100.
- `callback(step, loss)`: called after each step; steps count from 0.
- `optimizer`, `start`: to continue a run from step `start`, the optimizer of [`setup_optimizer`](@ref) with the slots
  of a checkpoint of any backend, see [`set_state!`](@ref).
- `processes`: several [`Processes`](@ref) call this with the same arguments and take each step together.
- `workspace`: with a [`DeviceWorkspace`](@ref), gradients are computed on its device.

Throws a `DataError` for labels that do not fit, and as [`train_step!`](@ref) and [`BatchPlan`](@ref) do.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> images, labels = zeros(UInt8, 32, 32, 3, 8), collect(0:7);

julia> losses = fit!(model, images, labels, TrainConfig(steps=3, batch_size=4));

julia> length(losses)
3
```
"""
function fit!(
    model::MobileNet, images::AbstractArray{UInt8,4}, labels, config::TrainConfig;
    mean=PREPROCESSING[config.preprocessing][1], std=PREPROCESSING[config.preprocessing][2],
    callback=Returns(nothing), optimizer=setup_optimizer(config, model), start=0, processes=Processes(),
    workspace=Workspace(),
)
    count = size(images, 4)
    labels = checked_classes(model, labels, count)
    (; seed, batch_size, crop_padding, flip, rotation, cutout, mixup, label_smoothing) = config
    plan = BatchPlan(;
        seed, num_images=count, batch_size, crop_padding, flip, rotation, cutout, mixup
    )
    return map(start:(config.steps - 1)) do step
        batch = batch_spec(plan, step)
        x = normalise_images(augment(images, batch), mean, std, eltype(model))
        y = if plan.mixup || label_smoothing > 0
            distributions = targets(labels, batch, model.config.num_classes, Float64)
            smoothed(distributions, label_smoothing, eltype(model))
        else
            labels[batch.indices .+ 1]
        end
        masks = dropout_masks(model, config, step)
        rate = rate_at(config, step)
        loss, _ = train_step!(model, optimizer, x, y, rate; masks, workspace, processes)
        callback(step, loss)
        loss
    end
end

"""
`(1 - smoothing) * targets + smoothing / classes` for `Float64` targets (classes, N), rounded once to `T`, the same bits
as in Python (Szegedy et al., arXiv:1512.00567, section 7).
"""
smoothed(targets, smoothing, T) = T.((1.0 - smoothing) .* targets .+ smoothing / size(targets, 1))

"""
The dropout mask of a step, the same bits as in Python, or `nothing`: of the factors (C, N), 0 or `1 / (1 - p)`, the
k-th is not 0 if the k-th word of stream MASK, as a number in [0, 1), is at least p.
"""
function dropout_masks(model::MobileNet{T}, config::TrainConfig, step) where {T}
    p = model.config.dropout
    p == 0 && return nothing
    size = (feature_channels(model.config), config.batch_size)
    words = raw_words(config.seed, STREAM.MASK, 0, step, prod(size))
    return Dict{String,Array}(DROPOUT => reshape(T.((uniform64.(words) .>= p) ./ (1 - p)), size))
end
