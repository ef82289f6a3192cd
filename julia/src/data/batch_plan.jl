"The weights of mixup are multiples of 1/256."
const MIXUP_UNITS = 256

"""
    BatchPlan(; seed, num_images, batch_size, crop_padding=4, flip=true, rotation=0, cutout=0, mixup=0)

The batches of a training run: the order of the images and the augmentation of each, as a function of the seed. The
same bits as in Python. [`batch_spec`](@ref) returns the batch of a step.

# Arguments

- `seed`: a whole number in [0, 2^64).
- `num_images`, `batch_size`: size of the data set and of a batch. The last, incomplete batch of an epoch is dropped.
- `crop_padding`: zeros around an image, in pixels, before it is cropped to its size.
- `flip`: whether half of the images are mirrored left to right.
- `rotation`: the largest angle, in degrees.
- `cutout`: the side of a square that is set to 0, in pixels (DeVries & Taylor, arXiv:1708.04552).
- `mixup`: 1 mixes pairs of images (Zhang et al., arXiv:1710.09412) with weights from Beta(1, 1), in units of 1/256.
  Other distributions are not supported: they have no sampler with the same bits in every language.

Throws a `ConfigError` for a negative seed, no images, a batch size outside [1, num_images], a rotation outside
[0, 180] degrees, a mixup other than 0 and 1.

# Random numbers

The order of an epoch is the permutation of `num_images` words of stream ORDER. The image at position p of an epoch,
from 0, uses words 4p, 4p+1 and 4p+2 of stream CROP: dy = bounded(word, 2 * crop_padding + 1), dx likewise, and
flip = the top bit. Of the same words of stream AUGMENT, the first is the angle in units of 1/16 degree,
bounded(word, 32 * rotation + 1) - 16 * rotation, and the others are the position of the cutout. With `mixup`, step s
uses 2B words of stream MIXUP, epoch 0, index s: the partners are the permutation of the first B, the weights
bounded(word, 257) of the others.

```jldoctest
julia> plan = BatchPlan(seed=0, num_images=10, batch_size=4);

julia> length(batch_spec(plan, 0).indices)
4
```
"""
struct BatchPlan
    seed::UInt64
    num_images::Int
    batch_size::Int
    crop_padding::Int
    flip::Bool
    rotation::Int
    cutout::Int
    mixup::Bool
    last_order::Base.RefValue{Tuple{Int,Vector{Int}}} # the last epoch of `epoch_order`, and its order

    function BatchPlan(;
        seed, num_images, batch_size, crop_padding=4, flip=true, rotation=0, cutout=0, mixup=0
    )
        integer(name, value, low, high) =
            checked_number(Int, name, value, low, high, "an integer in [$low, $high]")
        return new(
            checked_number(UInt64, "seed", seed, 0, typemax(UInt64), "an integer in [0, 2^64)"),
            integer("num_images", num_images, 1, 2^32 - 1),
            integer("batch_size", batch_size, 1, num_images),
            integer("crop_padding", crop_padding, 0, 2^16 - 1),
            checked_flag("flip", flip),
            integer("rotation", rotation, 0, 180),
            integer("cutout", cutout, 0, 2^16 - 1),
            checked_mixup(mixup) == 1,
            Ref((-1, Int[])),
        )
    end
end

steps_per_epoch(plan::BatchPlan) = plan.num_images ÷ plan.batch_size

"The order of the images in an epoch: indices in the data set, from 0."
function epoch_order(plan::BatchPlan, epoch)
    if plan.last_order[][1] != epoch
        words = raw_words(plan.seed, STREAM.ORDER, epoch, 0, plan.num_images)
        plan.last_order[] = (epoch, permutation(words))
    end
    return plan.last_order[][2]
end

"""
    batch_spec(plan, step)

The images of a step, counted from 0 over all epochs, and their augmentation, as a `NamedTuple`:

- `indices`: of the images in the data set, from 0.
- `dy`, `dx`, `crop_padding`: the corner of the crop in the padded image; `flips`: whether it is mirrored.
- `angles`: of rotation, clockwise, in units of 1/16 degree.
- `holes`, `cutout`: random words (2, B) for row and column of the center of the cutout, and its side.
- `partners`, `weights`: of mixup: indices in the batch, from 0, and the weights of the images themselves, in units
  of 1/256.

The values of an augmentation that the plan does not contain are `nothing`. Throws a `ConfigError` for a negative
step.
"""
function batch_spec(plan::BatchPlan, step::Integer)
    step >= 0 || throw(ConfigError("step must be at least 0. Received: $step"))
    epoch, position = divrem(step, steps_per_epoch(plan))
    span = (position * plan.batch_size + 1):((position + 1) * plan.batch_size)
    crop = span_words(plan, STREAM.CROP, epoch, span)
    extra = plan.rotation + plan.cutout > 0 ? span_words(plan, STREAM.AUGMENT, epoch, span) : crop
    mixup_words = raw_words(plan.seed, STREAM.MIXUP, 0, step, plan.mixup ? 2 * plan.batch_size : 0)
    positions, extent = 2 * plan.crop_padding + 1, 16 * plan.rotation
    return (;
        indices=epoch_order(plan, epoch)[span],
        dy=bounded.(crop[1, :], positions),
        dx=bounded.(crop[2, :], positions),
        flips=(crop[3, :] .>> 63 .== 1) .& plan.flip,
        crop_padding=plan.crop_padding,
        angles=plan.rotation > 0 ? bounded.(extra[1, :], 2extent + 1) .- extent : nothing,
        holes=plan.cutout > 0 ? extra[2:3, :] : nothing,
        cutout=plan.cutout,
        partners=plan.mixup ? permutation(mixup_words[1:plan.batch_size]) : nothing,
        weights=plan.mixup ? bounded.(mixup_words[(plan.batch_size + 1):end], MIXUP_UNITS + 1) : nothing,
    )
end

"The four words of each position in an epoch, for the positions `span`: (4, B)."
function span_words(plan::BatchPlan, stream, epoch, span)
    words = Matrix{UInt64}(undef, 4, length(span))
    for (column, position) in enumerate(span)
        counter = (UInt64(position), UInt64(0), UInt64(epoch), UInt64(stream))
        words[:, column] .= philox_block((plan.seed, UInt64(0)), counter)
    end
    return words
end
