"""The error of a gradient, by central differences of its function."""

import numpy as np

STEPS = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4)


def slope_error(function, point, gradient, rng, steps=STEPS, allowed=0.0):
    """Relative error of `gradient` at `point` along a random direction, with the best of `steps`.

    Steps after the first one whose error is below `allowed` are not tried.

    The differences are of fourth order, which allows steps so large that rounding errors are
    negligible. The direction is the sum of a random direction and the gradient's own, so that the
    slope along it is about the gradient's norm, by which the error is divided.
    """
    size = np.linalg.norm(gradient)
    assert size > 0, "a gradient of zero tests nothing"
    random = rng.standard_normal(point.shape)
    direction = gradient / size + random / np.linalg.norm(random)
    claimed = np.vdot(gradient, direction)
    best = np.inf
    for step in steps:
        best = min(best, abs(_slope(function, point, direction, step) - claimed) / size)
        if best < allowed:
            break
    return best


def _slope(function, point, direction, step):
    near = function(point + step * direction) - function(point - step * direction)
    far = function(point + 2 * step * direction) - function(point - 2 * step * direction)
    return (8 * near - far) / (12 * step)
