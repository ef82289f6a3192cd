"""
    fit!(model, images, labels, config::TrainConfig; mean, std, callback)

Train for `config.steps` steps on `UInt8` images (W, H, C, N) with `labels` (N,) from 0; return the loss of
each step (`Float64`). Images are moved about as [`BatchPlan`](@ref) says, the same bits as in Python, then
normalised by `mean` and `std`: if not given, those of the config's preprocessing, of which "standard" is
CIFAR-100's. `callback(step, loss)` is called after each step, which counts from 0. Throws as
[`train_step!`](@ref) does.
"""
function fit!(
    model::MobileNet, images::AbstractArray{UInt8,4}, labels, config::TrainConfig;
    mean=PREPROCESSING[config.preprocessing][1], std=PREPROCESSING[config.preprocessing][2],
    callback=Returns(nothing),
)
    count = size(images, 4)
    labels = checked_labels(model, labels, count)
    config.mixup == 0 || throw(ConfigError(
        "fit! trains on whole labels: mixup must be 0. Received: $(config.mixup)"
    ))
    (; seed, batch_size, crop_padding, flip, rotation, cutout) = config
    plan = BatchPlan(; seed, num_images=count, batch_size, crop_padding, flip, rotation, cutout)
    optimizer, workspace = setup(config, model), Workspace()
    return map(0:(config.steps - 1)) do step
        chosen = batch(plan, step)
        x = normalise(augment(images, chosen), mean, std, eltype(model))
        y = labels[chosen.indices .+ 1]
        masks = dropout_masks(model, config, step)
        loss, _ = train_step!(model, optimizer, x, y, config.rate; masks, workspace)
        callback(step, loss)
        loss
    end
end

"""
The masks of a step that drop what the config says, the same as in Python: of the factors (C, N), 0 or
`1 / (1 - p)`, the k-th is not 0 if the k-th word of stream MASK is at least p.
"""
function dropout_masks(model::MobileNet{T}, config::TrainConfig, step) where {T}
    p = model.config.dropout
    p == 0 && return nothing
    size = (feature_channels(model.config), config.batch_size)
    words = raw_words(config.seed, STREAM.MASK, 0, step, prod(size))
    return Dict{String,Array}(DROPOUT => reshape(T.((uniform64.(words) .>= p) ./ (1 - p)), size))
end
