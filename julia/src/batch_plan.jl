"The weights of mixed images are whole numbers of 256ths."
const MIXED = 256

"""
    BatchPlan(; seed, num_images, batch_size, crop_padding=4, flip=true, rotation=0, cutout=0, mixup=0)

The order of images and what is done to each, of a whole training run, a function of the seed: the same
bits as Python's.

The order of an epoch is the permutation of `num_images` words of stream ORDER. The image at position p
of an epoch, from 0, takes words 4p, 4p+1 and 4p+2 of stream CROP (word 4p+3 is not used):
dy = bounded(word, 2 * crop_padding + 1), dx likewise, and flip = the top bit. The last, incomplete
batch of an epoch is dropped.

It takes words 4p, 4p+1 and 4p+2 of stream AUGMENT too: with `rotation`, its angle is
bounded(word, 32 * rotation + 1) - 16 * rotation sixteenths of a degree; with `cutout`, the two others
place the hole (DeVries & Taylor, arXiv:1708.04552). With `mixup` (Zhang et al., arXiv:1710.09412), step s
takes 2B words of stream MIXUP, epoch 0, index s: the partners are the permutation of the first B, the
weights bounded(word, 257) of the others. That is Beta(1, 1) in 256ths; the paper's other alphas have no
sampler that is the same to the bit in every language and are refused.

Throws a `ConfigError` for a negative seed, fewer than one image, a batch size outside [1, num_images], a
rotation outside [0, 180] degrees, a mixup other than 0 and 1.

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
    rotation::Int
    cutout::Int
    mixup::Bool
    kept::Base.RefValue{Tuple{Int,Vector{Int}}} # the last epoch asked for, and its order

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
            flip,
            integer("rotation", rotation, 0, 180),
            integer("cutout", cutout, 0, 2^16 - 1),
            checked_mixup(mixup) == 1,
            Ref((-1, Int[])),
        )
    end
end

steps_per_epoch(plan::BatchPlan) = plan.num_images ÷ plan.batch_size

"The order of the images in an epoch: positions in the data set, from 0."
function order(plan::BatchPlan, epoch)
    if plan.kept[][1] != epoch
        words = raw_words(plan.seed, STREAM.ORDER, epoch, 0, plan.num_images)
        plan.kept[] = (epoch, permutation(words))
    end
    return plan.kept[][2]
end

"""
    batch(plan, step)

The images of a step, counted from 0 over all epochs, and what is done to them: `indices` (positions in
the data set, from 0), `dy` and `dx` (the crop's corner in the padded image), `flips` and `crop_padding`;
`angles` (clockwise, in sixteenths of a degree), `holes` (words, (2, B): of the middle's row and column)
and the `cutout`'s side; `partners` (positions in the batch, from 0) and the `weights` of the images
themselves in 256ths. What is not asked for is `nothing`.
"""
function batch(plan::BatchPlan, step::Integer)
    step >= 0 || throw(ConfigError("step must be at least 0. Received: $step"))
    epoch, position = divrem(step, steps_per_epoch(plan))
    span = (position * plan.batch_size + 1):((position + 1) * plan.batch_size)
    crop = words_of(plan, STREAM.CROP, epoch, span)
    extra = plan.rotation + plan.cutout > 0 ? words_of(plan, STREAM.AUGMENT, epoch, span) : crop
    mixed = raw_words(plan.seed, STREAM.MIXUP, 0, step, plan.mixup ? 2 * plan.batch_size : 0)
    places, extent = 2 * plan.crop_padding + 1, 16 * plan.rotation
    return (;
        indices=order(plan, epoch)[span],
        dy=bounded.(crop[1, :], places),
        dx=bounded.(crop[2, :], places),
        flips=(crop[3, :] .>> 63 .== 1) .& plan.flip,
        crop_padding=plan.crop_padding,
        angles=plan.rotation > 0 ? bounded.(extra[1, :], 2extent + 1) .- extent : nothing,
        holes=plan.cutout > 0 ? extra[2:3, :] : nothing,
        cutout=plan.cutout,
        partners=plan.mixup ? permutation(mixed[1:plan.batch_size]) : nothing,
        weights=plan.mixup ? bounded.(mixed[(plan.batch_size + 1):end], MIXED + 1) : nothing,
    )
end

"The four words of each position of an epoch in `span`: (4, B)."
function words_of(plan::BatchPlan, stream, epoch, span)
    words = Matrix{UInt64}(undef, 4, length(span))
    for (column, position) in enumerate(span)
        counter = (UInt64(position), UInt64(0), UInt64(epoch), UInt64(stream))
        words[:, column] .= philox_block((plan.seed, UInt64(0)), counter)
    end
    return words
end
