"""Pools and resizing in float64 NumPy, for any number of spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Padding = Sequence[tuple[int, int]]

PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""torch's name of a padding mode -> NumPy's."""

Inputs = list[np.ndarray]
Params = Mapping[str, np.ndarray]
Settings = Mapping[str, Any]


def pad(value: np.ndarray, padding: Padding, mode: str = "zeros", fill: float = 0.0) -> np.ndarray:
    """Pad the spatial axes of an array; negative sizes crop.

    Args:
        value: (N, C, ...).
        padding: The pixels before and after each spatial axis.
        mode: One of `PADDING_MODES`.
        fill: The value of new pixels in the mode ``zeros``.

    Returns:
        (N, C, ...) of another size.
    """
    pairs = [(0, 0), (0, 0), *padding]
    widths = [(max(low, 0), max(high, 0)) for low, high in pairs]
    options = {"constant_values": fill} if mode == "zeros" else {}
    padded = np.pad(value, widths, mode=PADDING_MODES[mode], **options)  # type: ignore[call-overload]
    crops = tuple(
        slice(max(-low, 0), size - max(-high, 0))
        for (low, high), size in zip(pairs, padded.shape, strict=True)
    )
    return padded[crops]


def same_padding(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] | None = None,
) -> tuple[tuple[int, int], ...]:
    """Return TensorFlow's SAME padding: ceil(size / stride) positions, the odd pixel last.

    Args:
        sizes: Pixels along each spatial axis.
        kernel: The size along each of them.
        stride: The same.
        dilation: The same; by default 1.

    Returns:
        The pixels before and after each axis.
    """
    pairs = []
    for n, k, s, d in zip(sizes, kernel, stride, dilation or (1,) * len(kernel), strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def windows(
    value: np.ndarray, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> np.ndarray:
    """Return all windows of an array.

    Args:
        value: (N, C, ...).
        kernel: The size along each spatial axis.
        stride: The same.
        dilation: The same.

    Returns:
        A view (N, C, *positions, *kernel).
    """
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    axes = tuple(range(2, value.ndim))
    view = sliding_window_view(value, extents, axis=axes)
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in stride))
    return view[(*steps, *(slice(None, None, d) for d in dilation))]


# Pools


def max_pool(inputs: Inputs, _params: Params, settings: Settings) -> np.ndarray:
    """Compute a max pool; the border is never the maximum, unless ``fill`` says otherwise.

    Args:
        inputs: One array (N, C, ...).
        settings: ``size``, ``stride``, ``padding``, ``ceil``, ``fill``; or ``output_size``.

    Returns:
        (N, C, ...) of another size.
    """
    if "output_size" in settings:
        return _adaptive_pool(inputs[0], settings, np.max)
    return pool_windows(inputs[0], settings, settings.get("fill", -np.inf)).max(-1)


def mean_pool(inputs: Inputs, _params: Params, settings: Settings) -> np.ndarray:
    """Compute a mean pool.

    Args:
        inputs: One array (N, C, ...).
        settings: ``size``, ``stride``, ``padding``, ``ceil``, ``count_padding``; or
            ``output_size`` and ``windows``.

    Returns:
        (N, C, ...) of another size.
    """
    if "output_size" in settings:
        return _adaptive_pool(inputs[0], settings, np.mean)
    sums = pool_windows(inputs[0], settings, 0.0).sum(-1)
    ones = np.ones_like(inputs[0])
    if settings.get("count_padding", True):
        ones = pad(ones, settings["padding"], fill=1.0)
        settings = {**settings, "padding": [(0, 0)] * (ones.ndim - 2)}
    return sums / pool_windows(ones, settings, 0.0).sum(-1)


def pool_windows(value: np.ndarray, settings: Settings, fill: float = -np.inf) -> np.ndarray:
    """Return the windows of a pool.

    Args:
        value: (N, C, ...).
        settings: ``size``, ``stride``, ``padding``, ``ceil``.
        fill: The value of the border.

    Returns:
        (N, C, *positions, area).
    """
    size, stride = settings["size"], settings["stride"]
    padding = [list(pair) for pair in settings["padding"]]
    if settings.get("ceil"):
        for axis, (n, k, s) in enumerate(zip(value.shape[2:], size, stride, strict=True)):
            low, high = padding[axis]
            count = -(-(n + low + high - k) // s) + 1
            count -= (count - 1) * s >= n + low  # no window begins in the last padding
            padding[axis][1] += max((count - 1) * s + k - n - low - high, 0)
    padded = pad(value, [(low, high) for low, high in padding], fill=fill)
    view = windows(padded, size, stride, (1,) * len(size))
    return view.reshape(*view.shape[: value.ndim], -1)


def _adaptive_pool(
    value: np.ndarray, settings: Settings, reduce: Callable[..., np.ndarray]
) -> np.ndarray:
    """Pool into an output of a given size."""
    find = _fixed_windows if settings.get("windows") == "fixed" else _covering_windows
    bounds = [
        find(size, size if count is None else count)
        for count, size in zip(settings["output_size"], value.shape[2:], strict=True)
    ]
    output = np.empty((*value.shape[:2], *map(len, bounds)))
    axes = tuple(range(2, value.ndim))
    for position in np.ndindex(*output.shape[2:]):
        region = [slice(*bounds[axis][index]) for axis, index in enumerate(position)]
        everything = slice(None), slice(None)
        output[(*everything, *position)] = reduce(value[(*everything, *region)], axis=axes)
    return output


def _covering_windows(size: int, count: int) -> list[tuple[int, int]]:
    """Return torch's adaptive windows: they cover all pixels and may overlap."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _fixed_windows(size: int, count: int) -> list[tuple[int, int]]:
    """Return Flux's adaptive windows: one size and one stride for all of them."""
    stride = size // count
    length = size - (count - 1) * stride
    return [(i * stride, i * stride + length) for i in range(count)]


# Resizing


def resize(inputs: Inputs, _params: Params, settings: Settings) -> np.ndarray:
    """Resize maps, one spatial axis after the other.

    Args:
        inputs: One array (N, C, ...).
        settings: ``mode`` (``nearest`` or ``bilinear``), ``align_corners``, ``antialias``, and
            ``output_size`` or ``scale``.

    Returns:
        (N, C, ...) of another size.
    """
    value = inputs[0]
    sizes = settings.get("output_size")
    for axis in range(value.ndim - 2):
        size = value.shape[2 + axis]
        scale = settings["scale"][axis] if sizes is None else sizes[axis] / size
        count = int(size * scale) if sizes is None else sizes[axis]
        matrix = _interpolation(size, count, scale, settings)
        value = np.moveaxis(np.moveaxis(value, 2 + axis, -1) @ matrix.T, -1, 2 + axis)
    return value


def _interpolation(size: int, count: int, scale: float, settings: Settings) -> np.ndarray:
    """Return the weight of each old pixel in each new one, (count, size)."""
    positions = np.arange(count)
    if settings["mode"] == "nearest":
        nearest = np.minimum(np.floor(positions / scale).astype(int), size - 1)
        return np.eye(size)[nearest]
    if settings.get("align_corners"):
        sources = positions * ((size - 1) / (count - 1) if count > 1 else 0.0)
    else:
        sources = (positions + 0.5) / scale - 0.5
    support = 1.0
    if settings.get("antialias") and not settings.get("align_corners"):
        support = max(1.0, 1 / scale)
    else:
        sources = np.clip(sources, 0, size - 1)
    distances = np.abs(np.arange(size)[None] - sources[:, None]) / support
    weights = np.maximum(1 - distances, 0)
    return weights / weights.sum(1, keepdims=True)
