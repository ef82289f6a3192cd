"""The convolution in float64, forward and backward; see `pymobilenet.backends.numpy_layers`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Padding = tuple[int, int]
"""Number of zeros before (above, left of) and after (below, right of) a feature map."""


def conv(
    x: np.ndarray, weight: np.ndarray, stride: int, padding: Padding, groups: int
) -> np.ndarray:
    """Convolve feature maps: cross-correlation with zero padding, without bias.

    ``y[n, o, h, w] = sum over c, i, j of weight[o, c, i, j] * padded[n, c', s*h + i, s*w + j]``
    with c' the c-th channel of the group of o. (Dumoulin & Visin, arXiv:1603.07285, chapter 2; a
    depthwise convolution is equation 3 of arXiv:1704.04861.)

    Args:
        x: (N, I, H, W).
        weight: (O, I/groups, kH, kW). Kernels are not flipped.
        stride: Distance between windows, in pixels, along both axes.
        padding: Zeros before and after each of the two axes.
        groups: Number of groups of channels.

    Returns:
        (N, O, H', W') with ``H' = (H + before + after - kH) // stride + 1``, and W' likewise.
    """
    padded = _pad(x, padding)
    rows = (padded.shape[2] - weight.shape[2]) // stride + 1
    columns = (padded.shape[3] - weight.shape[3]) // stride + 1
    y = np.zeros((len(x), len(weight), rows, columns))
    for i, j, window in _windows(weight, stride, rows, columns):
        y += _mix(weight[:, :, i, j], padded[window], groups)
    return y


def conv_backward(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray, stride: int, padding: Padding, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the gradients of `conv`.

    Args:
        grad: (N, O, H', W'), with respect to the output.
        x: (N, I, H, W), the input.
        weight: (O, I/groups, kH, kW).
        stride: As in `conv`.
        padding: As in `conv`.
        groups: As in `conv`.

    Returns:
        Gradients with respect to x (N, I, H, W) and weight (O, I/groups, kH, kW).
    """
    padded = _pad(x, padding)
    grad_padded = np.zeros_like(padded)
    grad_weight = np.empty_like(weight)
    for i, j, window in _windows(weight, stride, *grad.shape[2:]):
        grad_padded[window] += _unmix(weight[:, :, i, j], grad, groups)
        grad_weight[:, :, i, j] = _mix_weight_grad(grad, padded[window], groups)
    before, after = padding
    inner = slice(before, -after or None)
    return np.ascontiguousarray(grad_padded[:, :, inner, inner]), grad_weight


def _pad(x: np.ndarray, padding: Padding) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), padding, padding)) if any(padding) else x


def _windows(
    weight: np.ndarray, stride: int, rows: int, columns: int
) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
    """Yield each position (i, j) of the kernel, and the slices of the padded map it multiplies."""
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            down = slice(i, i + stride * (rows - 1) + 1, stride)
            across = slice(j, j + stride * (columns - 1) + 1, stride)
            yield i, j, (slice(None), slice(None), down, across)


def _is_depthwise(outputs: int, inputs: int, groups: int) -> bool:
    """Whether each group has one input and one output channel: a product of scalars."""
    return outputs == inputs == groups


def _mix(weight: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    """Apply a 1x1 convolution with weight (O, I/groups): (N, I, H, W) -> (N, O, H, W)."""
    outputs, inputs = weight.shape
    count, channels, rows, columns = x.shape
    if _is_depthwise(outputs, channels, groups):
        return weight[:, :, np.newaxis] * x
    y = np.matmul(
        weight.reshape(groups, outputs // groups, inputs), _grouped(x, groups)
    )  # (g, O/g, I/g) @ (N, g, I/g, HW)
    return y.reshape(count, outputs, rows, columns)


def _unmix(weight: np.ndarray, grad: np.ndarray, groups: int) -> np.ndarray:
    """Compute the gradient of `_mix` with respect to x: (N, O, H, W) -> (N, I, H, W)."""
    outputs, inputs = weight.shape
    per_group = weight.reshape(groups, outputs // groups, inputs).transpose(0, 2, 1)
    return _mix(per_group.reshape(groups * inputs, outputs // groups), grad, groups)


def _mix_weight_grad(grad: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    """Compute the gradient of `_mix` with respect to weight, (O, I/groups)."""
    outputs, channels = grad.shape[1], x.shape[1]
    if _is_depthwise(outputs, channels, groups):
        return channel_sums(grad * x)[:, np.newaxis]
    left, right = _grouped(grad, groups), _grouped(x, groups).swapaxes(-1, -2)
    total = np.zeros((groups, outputs // groups, channels // groups))
    for grad_image, x_image in zip(left, right, strict=True):
        total += np.matmul(grad_image, x_image)  # (g, O/g, HW) @ (g, HW, I/g)
    return total.reshape(outputs, channels // groups)


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """Reshape (N, C, H, W) to (N, groups, C/groups, H*W)."""
    count, channels, rows, columns = x.shape
    return x.reshape(count, groups, channels // groups, rows * columns)


def channel_sums(x: np.ndarray) -> np.ndarray:
    """Sum over each map with NumPy's pairwise sum, then pairwise over the images.

    Args:
        x: (N, C, H, W).

    Returns:
        (C,).
    """
    per_image = x.reshape(*x.shape[:2], -1).sum(axis=-1)  # (N, C)
    return np.ascontiguousarray(per_image.T).sum(axis=-1)
