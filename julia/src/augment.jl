# What a batch plan does to pixels and labels: whole numbers, the same bits as Python's. The order is crop,
# flip, rotation, cutout, mixup; what comes from outside an image is 0, black.

"""
    augment(images, batch)

The images of a batch after everything its plan does to them: `UInt8` (W, H, C, B) from the whole data set,
`UInt8` (W, H, C, N). Throws as [`crop_and_flip`](@ref) does.
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
    rotate(images, angles)

`UInt8` images (W, H, C, B) turned clockwise about their middle by `angles` sixteenths of a degree, bilinear.

In whole numbers: with c and s the cosine and sine of the angle in 2^-16 (to the nearest), and
u = 2x - (W-1), v = 2y - (H-1) the distances of output pixel (x, y) from the middle in half pixels, it is
read at (c u + s v, c v - s u) from the middle, in 2^-17 pixels. Fractions of a pixel are cut to 1/256 and
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
                upper = between(images, column, row, channel, b, right)
                lower = between(images, column, row + 1, channel, b, right)
                total = (256 - below) * upper + below * lower + 32768
                rotated[x, y, channel, b] = (total >> 16) % UInt8
            end
        end
    end
    return rotated
end

"256 times the value `right` 256ths of the way from a pixel to its right neighbour."
@inline function between(images, column, row, channel, b, right)
    first = pixel_or_black(images, column, row, channel, b)
    return (256 - right) * first + right * pixel_or_black(images, column + 1, row, channel, b)
end

@inline function pixel_or_black(images, column, row, channel, b)
    inside = checkbounds(Bool, images, column, row, channel, b)
    return inside ? Int(@inbounds images[column, row, channel, b]) : 0
end

"""
    cut_out!(images, holes, side)

Set a square of each image (W, H, C, B) to 0. Its middle is at row bounded(holes[1, b], H) and column
bounded(holes[2, b], W), from 0; it begins side ÷ 2 pixels above and to the left of that, and ends at the
image's border.
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

"`(w a + (256 - w) b + 128) >> 8` of each image a (W, H, C, B) and its partner b, counted from 0."
function mix(images::Array{UInt8,4}, partners, weights)
    mixed = similar(images)
    for (b, (partner, weight)) in enumerate(zip(partners, weights))
        image, other = view(images, :, :, :, b), view(images, :, :, :, partner + 1)
        w, rest = UInt16(weight), UInt16(MIXED - weight)
        view(mixed, :, :, :, b) .= ((w .* image .+ rest .* other .+ 0x0080) .>> 8) .% UInt8
    end
    return mixed
end

"""
    targets(labels, batch, classes, T=Float32)

What the images of a batch are to be learned as, (classes, B), columns summing to 1: one for an image's own
class; with mixup, w / 256 for it and the rest for its partner's. `labels` are those of the whole data set,
from 0.
"""
function targets(labels, batch, classes, T::Type=Float32)
    own = labels[batch.indices .+ 1]
    wanted = zeros(T, classes, length(own))
    for b in eachindex(own)
        weight = isnothing(batch.weights) ? one(T) : T(batch.weights[b] / MIXED)
        wanted[own[b] + 1, b] = weight
        isnothing(batch.weights) || (wanted[own[batch.partners[b] + 1] + 1, b] += 1 - weight)
    end
    return wanted
end
