# The augmentations of a batch plan, in whole numbers, the same bits as in Python. Their order is crop, flip, rotation,
# cutout, mixup. Pixels from outside an image are 0, black.

"""
    augment(images, batch)

The augmented images of a batch, `UInt8` (W, H, C, B), from the whole data set, `UInt8` (W, H, C, N). `batch` is a
result of [`batch_spec`](@ref). Throws a `DataError` if it names more images than there are.

```jldoctest
julia> plan = BatchPlan(seed=0, num_images=10, batch_size=4);

julia> size(augment(zeros(UInt8, 32, 32, 3, 10), batch_spec(plan, 0)))
(32, 32, 3, 4)
```
"""
function augment(images::AbstractArray{UInt8,4}, batch)
    pixels = crop_and_flip(images, batch)
    isnothing(batch.angles) || (pixels = rotate(pixels, batch.angles))
    isnothing(batch.holes) || cut_out!(pixels, batch.holes, batch.cutout)
    isnothing(batch.weights) || (pixels = mix(pixels, batch.partners, batch.weights))
    return pixels
end

"""
    crop_and_flip(images, batch)

The images of a batch, zero-padded, cropped to their size and mirrored left to right: `UInt8` (W, H, C, B) from the
whole data set, `UInt8` (W, H, C, N). Throws a `DataError` if the batch names more images than there are.
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
    rotate(images, angles)

`UInt8` images (W, H, C, B) rotated clockwise about their center by `angles`, in units of 1/16 degree, bilinear.

In whole numbers: let c and s be cosine and sine of the angle in units of 2^-16, rounded to nearest, and
u = 2x - (W-1), v = 2y - (H-1) the distances of output pixel (x, y) from the center in half pixels. Its value is read
at (c u + s v, c v - s u) from the center, in units of 2^-17 pixels. Fractions of a pixel are truncated to 1/256, and
the weighted sum of the four neighbours is rounded half up.
"""
function rotate(images::Array{UInt8,4}, angles)
    width, height, channels, count = size(images)
    rotated = similar(images)
    for b in 1:count
        radians = angles[b] * (pi / (16 * 180))
        c, s = round(Int, cos(radians) * 65536), round(Int, sin(radians) * 65536)
        for y in 1:height, x in 1:width
            u, v = 2x - 1 - width, 2y - 1 - height
            across = c * u + s * v + (width - 1) * 65536
            down = c * v - s * u + (height - 1) * 65536
            column, row = (across >> 17) + 1, (down >> 17) + 1
            right, below = (across >> 9) & 255, (down >> 9) & 255
            for channel in 1:channels
                upper = interpolated(images, column, row, channel, b, right)
                lower = interpolated(images, column, row + 1, channel, b, right)
                total = (256 - below) * upper + below * lower + 32768
                rotated[x, y, channel, b] = (total >> 16) % UInt8
            end
        end
    end
    return rotated
end

"256 times the value between a pixel and its right neighbour, at the distance `right` / 256."
@inline function interpolated(images, column, row, channel, b, right)
    left_pixel = pixel_or_black(images, column, row, channel, b)
    return (256 - right) * left_pixel + right * pixel_or_black(images, column + 1, row, channel, b)
end

@inline function pixel_or_black(images, column, row, channel, b)
    inside = checkbounds(Bool, images, column, row, channel, b)
    return inside ? Int(@inbounds images[column, row, channel, b]) : 0
end

"""
    cut_out!(images, holes, side)

Set a square of each image (W, H, C, B) to 0. Its center is at row bounded(holes[1, b], H) and column
bounded(holes[2, b], W), from 0. It starts side ÷ 2 pixels above and to the left of the center, and is clipped to the
image.
"""
function cut_out!(images::Array{UInt8,4}, holes, side)
    width, height, _, count = size(images)
    for b in 1:count
        top, left = bounded(holes[1, b], height) - side ÷ 2, bounded(holes[2, b], width) - side ÷ 2
        rows, columns = max(top + 1, 1):min(top + side, height), max(left + 1, 1):min(left + side, width)
        images[columns, rows, :, b] .= 0
    end
    return images
end

"`(w a + (256 - w) b + 128) >> 8` for each image a (W, H, C, B) and its partner b, counted from 0."
function mix(images::Array{UInt8,4}, partners, weights)
    mixed_images = similar(images)
    for (b, (partner, weight)) in enumerate(zip(partners, weights))
        image, other = view(images, :, :, :, b), view(images, :, :, :, partner + 1)
        w, rest = UInt16(weight), UInt16(MIXUP_UNITS - weight)
        view(mixed_images, :, :, :, b) .= ((w .* image .+ rest .* other .+ 0x0080) .>> 8) .% UInt8
    end
    return mixed_images
end

"""
    MobileNets.targets(labels, batch, classes, T=Float32)

The target distributions (classes, B) of a batch: one-hot; with mixup, w / 256 for the class of the image and the rest
for that of its partner. `labels` are those of the whole data set, from 0.

```jldoctest
julia> plan = BatchPlan(seed=0, num_images=10, batch_size=4);

julia> sum(MobileNets.targets(fill(2, 10), batch_spec(plan, 0), 3); dims=2)
3×1 Matrix{Float32}:
 0.0
 0.0
 4.0
```
"""
function targets(labels, batch, classes, T::Type=Float32)
    own = labels[batch.indices .+ 1]
    distributions = zeros(T, classes, length(own))
    for b in eachindex(own)
        weight = isnothing(batch.weights) ? one(T) : T(batch.weights[b] / MIXUP_UNITS)
        distributions[own[b] + 1, b] = weight
        isnothing(batch.weights) || (distributions[own[batch.partners[b] + 1] + 1, b] += 1 - weight)
    end
    return distributions
end
