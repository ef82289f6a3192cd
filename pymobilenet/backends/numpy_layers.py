"""The layers of MobileNet in float64, forward and backward, written from their formulas.

This is the oracle: it says who is right when two frameworks differ. Each function returns new
arrays and keeps nothing; a backward function takes the gradient of the loss with respect to its
layer's output and returns those with respect to the layer's inputs.

Axes are PyTorch's: maps are (N, C, H, W), convolution weights (O, I/g, kH, kW). Long sums are
split: within a map NumPy adds pairwise, and only then images are added to each other, so that
rounding errors grow with the logarithm of the map (Higham, SIAM J. Sci. Comput. 14, 783 (1993)).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Convolution


Padding = tuple[int, int]
"""Zeros before (above, to the left) and after (below, to the right) a map."""


def conv(
    x: np.ndarray, weight: np.ndarray, stride: int, padding: Padding, groups: int
) -> np.ndarray:
    """Cross-correlation of zero-padded maps with kernels that are not flipped; no bias.

    ``y[n, o, h, w] = sum over c, i, j of weight[o, c, i, j] * padded[n, c', s*h + i, s*w + j]``
    with c' the c-th channel of the group of o. (Dumoulin & Visin, arXiv:1603.07285, chapter 2; a
    depthwise convolution is equation 3 of arXiv:1704.04861.)

    Args:
        x: (N, I, H, W).
        weight: (O, I/groups, kH, kW).

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
    """Gradients of `conv` with respect to x (N, I, H, W) and weight (O, I/groups, kH, kW)."""
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
    """Each position (i, j) in the kernel, with the part of the padded map it is multiplied with."""
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            down = slice(i, i + stride * (rows - 1) + 1, stride)
            across = slice(j, j + stride * (columns - 1) + 1, stride)
            yield i, j, (slice(None), slice(None), down, across)


def _is_depthwise(outputs: int, inputs: int, groups: int) -> bool:
    """One input and one output channel for each group: products of numbers, not of matrices."""
    return outputs == inputs == groups


def _mix(weight: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    """The 1x1 convolution with weight (O, I/groups): (N, I, H, W) -> (N, O, H, W)."""
    outputs, inputs = weight.shape
    count, channels, rows, columns = x.shape
    if _is_depthwise(outputs, channels, groups):
        return weight[:, :, np.newaxis] * x
    y = np.matmul(
        weight.reshape(groups, outputs // groups, inputs), _grouped(x, groups)
    )  # (g, O/g, I/g) @ (N, g, I/g, HW)
    return y.reshape(count, outputs, rows, columns)


def _unmix(weight: np.ndarray, grad: np.ndarray, groups: int) -> np.ndarray:
    """The gradient of `_mix` with respect to x: (N, O, H, W) -> (N, I, H, W)."""
    outputs, inputs = weight.shape
    per_group = weight.reshape(groups, outputs // groups, inputs).transpose(0, 2, 1)
    return _mix(per_group.reshape(groups * inputs, outputs // groups), grad, groups)


def _mix_weight_grad(grad: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    """The gradient of `_mix` with respect to weight, (O, I/groups)."""
    outputs, channels = grad.shape[1], x.shape[1]
    if _is_depthwise(outputs, channels, groups):
        return _channel_sums(grad * x)[:, np.newaxis]
    left, right = _grouped(grad, groups), _grouped(x, groups).swapaxes(-1, -2)
    total = np.zeros((groups, outputs // groups, channels // groups))
    for of_image, x_image in zip(left, right, strict=True):
        total += np.matmul(of_image, x_image)  # (g, O/g, HW) @ (g, HW, I/g)
    return total.reshape(outputs, channels // groups)


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, C, H, W) -> (N, groups, C/groups, H*W)."""
    count, channels, rows, columns = x.shape
    return x.reshape(count, groups, channels // groups, rows * columns)


def _channel_sums(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) -> (C,): pairwise over the map, then pairwise over the images."""
    per_image = x.reshape(*x.shape[:2], -1).sum(axis=-1)  # (N, C)
    return np.ascontiguousarray(per_image.T).sum(axis=-1)


# Batch normalisation


@dataclass(frozen=True)
class Statistics:
    """What a norm normalises with: mean and variance of each channel, (C,).

    Those of a batch are over `count` values, and their variance is the biased one; running ones
    are constants, whose count says nothing.
    """

    mean: np.ndarray
    variance: np.ndarray
    count: int

    @property
    def unbiased_variance(self) -> np.ndarray:
        """What the running variance is fed: ``variance * count / (count - 1)``."""
        return self.variance * (self.count / (self.count - 1))


def batch_statistics(x: np.ndarray) -> Statistics:
    """Mean and biased variance over N, H and W of maps (N, C, H, W), in two passes."""
    count = x.size // x.shape[1]
    mean = _channel_sums(x) / count
    variance = _channel_sums((x - _per_channel(mean)) ** 2) / count
    return Statistics(mean, variance, count)


def normalise(x: np.ndarray, statistics: Statistics, eps: float) -> np.ndarray:
    """``(x - mean) / sqrt(variance + eps)`` for maps (N, C, H, W)."""
    centred = x - _per_channel(statistics.mean)
    return centred / _per_channel(np.sqrt(statistics.variance + eps))


def affine(normalised: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """``weight * normalised + bias``, (N, C, H, W): the second half of a norm.

    Ioffe & Szegedy, arXiv:1502.03167, algorithm 1, where weight is gamma and bias beta.
    """
    return _per_channel(weight) * normalised + _per_channel(bias)


def affine_backward(
    grad: np.ndarray, normalised: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of `affine` with respect to normalised (N, C, H, W), weight and bias (C,)."""
    return _per_channel(weight) * grad, _channel_sums(grad * normalised), _channel_sums(grad)


def normalise_backward(grad: np.ndarray, statistics: Statistics, eps: float) -> np.ndarray:
    """Gradient of `normalise` with respect to x where the statistics are constants."""
    return grad / _per_channel(np.sqrt(statistics.variance + eps))


def normalise_batch_backward(
    grad: np.ndarray, normalised: np.ndarray, statistics: Statistics, eps: float
) -> np.ndarray:
    """Gradient of `normalise` with respect to x where the statistics are those of x itself.

    The chain through mean and variance takes away what changes neither:
    ``(grad - mean(grad) - normalised * mean(grad * normalised)) / sqrt(variance + eps)``,
    the means over N, H, W (the gradients of arXiv:1502.03167, section 3, put together).
    """
    mean = _channel_sums(grad) / statistics.count
    slope = _channel_sums(grad * normalised) / statistics.count
    rest = grad - _per_channel(mean) - normalised * _per_channel(slope)
    return normalise_backward(rest, statistics, eps)


def _per_channel(values: np.ndarray) -> np.ndarray:
    """(C,) -> (C, 1, 1), which broadcasts against (N, C, H, W)."""
    return values[:, np.newaxis, np.newaxis]


# Activation, pooling, classifier, loss


def activate(x: np.ndarray, region: np.ndarray) -> np.ndarray:
    """ReLU or ReLU6 as the piece of it that `region` (see `backends.base.activation_masks`) names.

    Products, not a choice: what is not a number stays so.
    """
    return x * (region == 1) + 6.0 * (region == 2)


def activate_backward(grad: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Gradient of `activate` with respect to x: nothing passes a constant piece."""
    return grad * (region == 1)


def mean_pool(x: np.ndarray) -> np.ndarray:
    """Mean of each map: (N, C, H, W) -> (N, C)."""
    return x.reshape(*x.shape[:2], -1).mean(axis=-1)


def mean_pool_backward(grad: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Gradient of `mean_pool` with respect to maps of `rows` x `columns`: (N, C, H, W)."""
    share = grad / (rows * columns)
    return np.tile(share[:, :, np.newaxis, np.newaxis], (rows, columns))


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """``x @ weight.T + bias``: (N, in), (out, in), (out,) -> (N, out)."""
    return x @ weight.T + bias


def linear_backward(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of `linear` with respect to x (N, in), weight (out, in) and bias (out,)."""
    return grad @ weight, grad.T @ x, grad.sum(axis=0)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, classes); the largest logit of each row is taken off first."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over the batch of ``sum(targets * (logsumexp(logits) - logits))``, and its gradient.

    `labels` are the targets (N, classes), or classes (N,), of which a target is 1. The largest
    logit of each row is taken off first, so that no exponential overflows (Blanchard, Higham &
    Higham, IMA J. Numer. Anal. 41, 2311 (2021)). The gradient, (N, classes), is
    ``(softmax(logits) * sum(targets) - targets) / N``.
    """
    targets = labels
    if labels.ndim == 1:
        targets = np.zeros(logits.shape)
        targets[np.arange(len(labels)), labels] = 1.0
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = float((targets * (log_sums - shifted)).sum(axis=1).mean())
    grad = np.exp(shifted - log_sums) * targets.sum(axis=1, keepdims=True) - targets
    return loss, grad / len(logits)
