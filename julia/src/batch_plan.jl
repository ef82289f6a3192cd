"""
    BatchPlan(; seed, num_images, batch_size, crop_padding=4, flip=true)

The order of images, crops and flips of a whole training run, a function of the seed: the same bits as
Python's.

The order of an epoch is the permutation of `num_images` words of stream ORDER. The image at position p
of an epoch, from 0, takes words 4p, 4p+1 and 4p+2 of stream CROP (word 4p+3 is not used):
dy = bounded(word, 2 * crop_padding + 1), dx likewise, and flip = the top bit. The last, incomplete
batch of an epoch is dropped.

Throws a `ConfigError` for a negative seed, fewer than one image, or a batch size outside
[1, num_images].

```jldoctest
julia> plan = BatchPlan(seed=0, num_images=10, batch_size=4);

julia> length(batch(plan, 0).indices)
4
```
"""
struct BatchPlan
    seed::UInt64
    num_images::Int
    batch_size::Int
    crop_padding::Int
    flip::Bool

    function BatchPlan(; seed, num_images, batch_size, crop_padding=4, flip=true)
        integer(name, value, low, high) =
            checked_number(Int, name, value, low, high, "an integer in [$low, $high]")
        return new(
            checked_number(UInt64, "seed", seed, 0, typemax(UInt64), "an integer in [0, 2^64)"),
            integer("num_images", num_images, 1, 2^32 - 1),
            integer("batch_size", batch_size, 1, num_images),
            integer("crop_padding", crop_padding, 0, 2^16 - 1),
            flip,
        )
    end
end

steps_per_epoch(plan::BatchPlan) = plan.num_images ÷ plan.batch_size

"The order of the images in an epoch: positions in the data set, from 0."
function order(plan::BatchPlan, epoch)
    return permutation(raw_words(plan.seed, STREAM.ORDER, epoch, 0, plan.num_images))
end

"""
    batch(plan, step)

The images of a step, counted from 0 over all epochs, and what is done to them: `indices` (positions in
the data set, from 0), `dy` and `dx` (the crop's corner in the padded image), `flips` and `crop_padding`.
"""
function batch(plan::BatchPlan, step::Integer)
    step >= 0 || throw(ConfigError("step must be at least 0. Received: $step"))
    epoch, position = divrem(step, steps_per_epoch(plan))
    span = (position * plan.batch_size + 1):((position + 1) * plan.batch_size)
    words = reshape(raw_words(plan.seed, STREAM.CROP, epoch, 0, 4 * last(span)), 4, :)[:, span]
    places = 2 * plan.crop_padding + 1
    return (;
        indices=order(plan, epoch)[span],
        dy=bounded.(words[1, :], places),
        dx=bounded.(words[2, :], places),
        flips=(words[3, :] .>> 63 .== 1) .& plan.flip,
        crop_padding=plan.crop_padding,
    )
end

"""
    crop_and_flip(images, batch)

The images of a batch, zero-padded, cropped to their size, then mirrored left to right: `UInt8`
(W, H, C, B) from the whole data set, `UInt8` (W, H, C, N). Throws a `DataError` if the batch names more
images than there are.
"""
function crop_and_flip(images::AbstractArray{UInt8,4}, batch)
    width, height, channels, count = size(images)
    maximum(batch.indices) < count || throw(DataError(
        "the batch names image $(maximum(batch.indices)), but images holds only $count; " *
        "make the plan with num_images=size(images, 4)",
    ))
    crops = zeros(UInt8, width, height, channels, length(batch.indices))
    for (b, index) in enumerate(batch.indices), channel in 1:channels
        right, down = batch.dx[b] - batch.crop_padding, batch.dy[b] - batch.crop_padding
        for y in 1:height, x in 1:width
            column, row = (batch.flips[b] ? width + 1 - x : x) + right, y + down
            if 1 <= column <= width && 1 <= row <= height
                crops[x, y, channel, b] = images[column, row, channel, index + 1]
            end
        end
    end
    return crops
end

"""
    normalise(images, mean, std, T=Float32)

`(x / 255 - mean) / std`, computed in `Float64` and rounded once to `T`, for `UInt8` images
(W, H, C, B); `mean` and `std` hold a value in [0, 1] units for each channel.
"""
function normalise(images::AbstractArray{UInt8,4}, mean, std, T::Type=Float32)
    channels = size(images, 3)
    if length(mean) != channels || length(std) != channels
        throw(ConfigError(
            "mean and std must hold one value for each of the $channels channels. " *
            "Received: $mean, $std",
        ))
    end
    if !all(isfinite, mean) || !all(s -> isfinite(s) && s > 0, std)
        throw(ConfigError(
            "mean must be finite and std finite and positive. Received: $mean, $std"
        ))
    end
    table = [T((value / 255 - mean[c]) / std[c]) for value in 0:255, c in 1:channels]
    return [table[images[at] + 1, at[3]] for at in CartesianIndices(images)]
end
