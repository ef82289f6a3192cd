"The mean and deviation of CIFAR-100's training images, for each channel in [0, 1] units."
const CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)

"""
    fit!(model, images, labels, config::TrainConfig; mean, std, callback)

Train for `config.steps` steps, at the rates of [`rate_at`](@ref), on `UInt8` images (W, H, C, N) with
`labels` (N,) from 0; return the loss of each step (`Float64`). Images are cropped and flipped as
[`BatchPlan`](@ref) says, the same bits as in Python, then normalised by `mean` and `std` (CIFAR-100's if
not given). `callback(step, loss)` is called after each step, which counts from 0. Throws as
[`train_step!`](@ref) does.
"""
function fit!(
    model::MobileNet, images::AbstractArray{UInt8,4}, labels, config::TrainConfig;
    mean=CIFAR100_MEAN, std=CIFAR100_STD, callback=Returns(nothing),
)
    count = size(images, 4)
    labels = checked_classes(model, labels, count)
    (; seed, batch_size, crop_padding, flip) = config
    plan = BatchPlan(; seed, num_images=count, batch_size, crop_padding, flip)
    optimizer, workspace = setup(config, model), Workspace()
    return map(0:(config.steps - 1)) do step
        chosen = batch(plan, step)
        x = normalise(crop_and_flip(images, chosen), mean, std, eltype(model))
        y = smoothed(model, labels[chosen.indices .+ 1], config.label_smoothing)
        masks = dropout_masks(model, config, step)
        loss, _ = train_step!(model, optimizer, x, y, rate_at(config, step); masks, workspace)
        callback(step, loss)
        loss
    end
end

"""
Targets (classes, N): `smoothing` spread evenly over all classes, the rest on the label (Szegedy et al.,
arXiv:1512.00567, section 7), the same as in Python; the labels themselves where it is 0.
"""
function smoothed(model::MobileNet{T}, labels, smoothing) where {T}
    smoothing == 0 && return labels
    part = smoothing / model.config.num_classes
    targets = fill(T(part), model.config.num_classes, length(labels))
    for (column, label) in zip(eachcol(targets), labels)
        column[label + 1] = T((1.0 - smoothing) + part)
    end
    return targets
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
