"""A reference implementation of the augmentations, pixel by pixel in Python's integers."""

import math


def black_outside(image, y, x):
    return image[y][x] if 0 <= y < len(image) and 0 <= x < len(image[0]) else 0


def cropped(image, dy, dx, flip, padding):
    rows, columns = range(len(image)), range(len(image[0]))
    crop = [
        [black_outside(image, y + dy - padding, x + dx - padding) for x in columns] for y in rows
    ]
    return [row[::-1] for row in crop] if flip else crop


def fixed(value):
    """To the nearest 2**-16; `test_no_sine_is_near_a_tie` says why any libm will do."""
    return round(value * 65536)


def rotated(image, angle):
    height, width = len(image), len(image[0])
    cos, sin = (fixed(f(math.radians(angle / 16))) for f in (math.cos, math.sin))

    def pixel(y, x):
        u, v = 2 * x - (width - 1), 2 * y - (height - 1)
        across = cos * u + sin * v + (width - 1) * 2**16
        down = cos * v - sin * u + (height - 1) * 2**16
        column, row = across // 2**17, down // 2**17
        right, below = across % 2**17 // 2**9, down % 2**17 // 2**9
        total = 2**15
        for i, vertical in ((0, 256 - below), (1, below)):
            for j, horizontal in ((0, 256 - right), (1, right)):
                total += vertical * horizontal * black_outside(image, row + i, column + j)
        return total // 2**16

    return [[pixel(y, x) for x in range(width)] for y in range(height)]


def with_hole(image, words, side):
    middle = [
        (word >> 32) * n >> 32 for word, n in zip(words, (len(image), len(image[0])), strict=True)
    ]
    (top, left) = (center - side // 2 for center in middle)
    return [
        [
            0 if top <= y < top + side and left <= x < left + side else value
            for x, value in enumerate(row)
        ]
        for y, row in enumerate(image)
    ]


def mixed(image, partner, weight):
    return [
        [(weight * a + (256 - weight) * b + 128) // 256 for a, b in zip(*rows, strict=True)]
        for rows in zip(image, partner, strict=True)
    ]


def augmented(images, case):
    """Nested lists (B, C, H, W) from (N, C, H, W) and what `BatchPlan.batch` gives, as lists."""
    batch = []
    for b, index in enumerate(case["indices"]):
        planes = [
            cropped(plane, case["dy"][b], case["dx"][b], case["flips"][b], case["crop_padding"])
            for plane in images[index]
        ]
        if case.get("angles") is not None:
            planes = [rotated(plane, case["angles"][b]) for plane in planes]
        if case.get("holes") is not None:
            planes = [with_hole(plane, case["holes"][b], case["cutout"]) for plane in planes]
        batch.append(planes)
    if case.get("partners") is None:
        return batch
    return [
        [mixed(plane, other, weight) for plane, other in zip(planes, batch[partner], strict=True)]
        for planes, partner, weight in zip(batch, case["partners"], case["weights"], strict=True)
    ]
