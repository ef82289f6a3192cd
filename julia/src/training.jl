"""
    fit!(model, images, labels, config::TrainConfig; mean, std, callback, optimizer, start, processes,
         workspace)

Train for `config.steps` steps, at the rates of [`rate_at`](@ref), on `UInt8` images (W, H, C, N) with
`labels` (N,) from 0; return the loss of each step (`Float64`). Images are moved about as [`BatchPlan`](@ref)
says, the same bits as in Python, then normalised by `mean` and `std`: if not given, those of the config's
preprocessing, of which "standard" is CIFAR-100's. Where the config mixes images or smooths labels, these
become [`targets`](@ref). `callback(step, loss)` is called after each step, which counts from 0. To go on
from step `start`, give the `optimizer` with its moments, as [`setup`](@ref) and [`set_state!`](@ref) make it
from a checkpoint of any backend. Several [`Processes`](@ref) call this with the same arguments and take each
step together. With a [`DeviceWorkspace`](@ref), gradients are computed there. Throws as [`train_step!`](@ref)
does.
"""
function fit!(
    model::MobileNet, images::AbstractArray{UInt8,4}, labels, config::TrainConfig;
    mean=PREPROCESSING[config.preprocessing][1], std=PREPROCESSING[config.preprocessing][2],
    callback=Returns(nothing), optimizer=setup(config, model), start=0, processes=Processes(),
    workspace=Workspace(),
)
    count = size(images, 4)
    labels = checked_classes(model, labels, count)
    (; seed, batch_size, crop_padding, flip, rotation, cutout, mixup, label_smoothing) = config
    plan = BatchPlan(;
        seed, num_images=count, batch_size, crop_padding, flip, rotation, cutout, mixup
    )
    return map(start:(config.steps - 1)) do step
        chosen = batch(plan, step)
        x = normalise(augment(images, chosen), mean, std, eltype(model))
        y = if plan.mixup || label_smoothing > 0
            wanted = targets(labels, chosen, model.config.num_classes, Float64)
            smoothed(wanted, label_smoothing, eltype(model))
        else
            labels[chosen.indices .+ 1]
        end
        masks = dropout_masks(model, config, step)
        rate = rate_at(config, step)
        loss, _ = train_step!(model, optimizer, x, y, rate; masks, workspace, processes)
        callback(step, loss)
        loss
    end
end

"""
`(1 - smoothing) * wanted + smoothing / classes` for `Float64` targets (classes, N), rounded once to `T`, the
same as in Python (Szegedy et al., arXiv:1512.00567, section 7).
"""
smoothed(wanted, smoothing, T) = T.((1.0 - smoothing) .* wanted .+ smoothing / size(wanted, 1))

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
