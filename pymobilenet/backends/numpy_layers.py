"""The layers of MobileNet in float64, forward and backward, written from their formulas.

These functions are the oracle: the reference when two frameworks differ. Each function returns new
arrays and has no state. A backward function takes the gradient of the loss with respect to its
layer's output and returns those with respect to the layer's inputs.

Axes are PyTorch's: feature maps are (N, C, H, W), convolution weights (O, I/g, kH, kW). Long sums
are split: NumPy adds pairwise within a map, and the sums of the maps are added pairwise, so that
rounding errors grow with the logarithm of the count (Higham, SIAM J. Sci. Comput. 14, 783 (1993)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pymobilenet.backends.numpy_conv import channel_sums, conv, conv_backward

__all__ = [
    "Statistics",
    "activate",
    "activate_backward",
    "affine",
    "affine_backward",
    "batch_statistics",
    "conv",
    "conv_backward",
    "cross_entropy",
    "linear",
    "linear_backward",
    "mean_pool",
    "mean_pool_backward",
    "normalise",
    "normalise_backward",
    "normalise_batch_backward",
    "softmax",
]

# Batch normalisation


@dataclass(frozen=True)
class Statistics:
    """The mean and variance of each channel with which a batch norm normalises.

    Attributes:
        mean: (C,).
        variance: (C,), biased.
        count: Number of values per channel; 0 for running statistics.
    """

    mean: np.ndarray
    variance: np.ndarray
    count: int

    @property
    def unbiased_variance(self) -> np.ndarray:
        """The unbiased variance (C,), which updates the running variance."""
        return self.variance * (self.count / (self.count - 1))


def batch_statistics(x: np.ndarray) -> Statistics:
    """Compute mean and biased variance over N, H and W, in two passes.

    Args:
        x: (N, C, H, W).

    Returns:
        Statistics with arrays (C,).
    """
    count = x.size // x.shape[1]
    mean = channel_sums(x) / count
    variance = channel_sums((x - _per_channel(mean)) ** 2) / count
    return Statistics(mean, variance, count)


def normalise(x: np.ndarray, statistics: Statistics, eps: float) -> np.ndarray:
    """Compute ``(x - mean) / sqrt(variance + eps)``.

    Args:
        x: (N, C, H, W).
        statistics: Of the batch, or running ones.
        eps: Added to the variance.

    Returns:
        (N, C, H, W).
    """
    centred = x - _per_channel(statistics.mean)
    return centred / _per_channel(np.sqrt(statistics.variance + eps))


def affine(normalised: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Compute ``weight * normalised + bias``, the second half of a batch norm.

    Ioffe & Szegedy, arXiv:1502.03167, algorithm 1, with weight as gamma and bias as beta.

    Args:
        normalised: (N, C, H, W).
        weight: (C,).
        bias: (C,).

    Returns:
        (N, C, H, W).
    """
    return _per_channel(weight) * normalised + _per_channel(bias)


def affine_backward(
    grad: np.ndarray, normalised: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the gradients of `affine`.

    Args:
        grad: (N, C, H, W), with respect to the output.
        normalised: (N, C, H, W), the input.
        weight: (C,).

    Returns:
        Gradients with respect to normalised (N, C, H, W), weight (C,) and bias (C,).
    """
    return _per_channel(weight) * grad, channel_sums(grad * normalised), channel_sums(grad)


def normalise_backward(grad: np.ndarray, statistics: Statistics, eps: float) -> np.ndarray:
    """Compute the gradient of `normalise` with respect to x, with constant statistics.

    Args:
        grad: (N, C, H, W), with respect to the output.
        statistics: As in `normalise`.
        eps: As in `normalise`.

    Returns:
        (N, C, H, W).
    """
    return grad / _per_channel(np.sqrt(statistics.variance + eps))


def normalise_batch_backward(
    grad: np.ndarray, normalised: np.ndarray, statistics: Statistics, eps: float
) -> np.ndarray:
    """Compute the gradient of `normalise` with respect to x, with the statistics of x.

    ``(grad - mean(grad) - normalised * mean(grad * normalised)) / sqrt(variance + eps)``, with
    means over N, H and W: the gradients of arXiv:1502.03167, section 3, combined.

    Args:
        grad: (N, C, H, W), with respect to the output.
        normalised: (N, C, H, W), the output of `normalise`.
        statistics: Those of x, from `batch_statistics`.
        eps: As in `normalise`.

    Returns:
        (N, C, H, W).
    """
    mean = channel_sums(grad) / statistics.count
    slope = channel_sums(grad * normalised) / statistics.count
    rest = grad - _per_channel(mean) - normalised * _per_channel(slope)
    return normalise_backward(rest, statistics, eps)


def _per_channel(values: np.ndarray) -> np.ndarray:
    """Reshape (C,) to (C, 1, 1), which broadcasts against (N, C, H, W)."""
    return values[:, np.newaxis, np.newaxis]


# Activation, pooling, classifier, loss


def activate(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Apply the linear pieces of ReLU or ReLU6 that `mask` selects. NaN stays NaN.

    Args:
        x: Any shape.
        mask: uint8 of the same shape, from `pymobilenet.backends.activation_masks`.

    Returns:
        0, x or 6 where the mask is 0, 1 or 2.
    """
    return x * (mask == 1) + 6.0 * (mask == 2)


def activate_backward(grad: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Compute the gradient of `activate` with respect to x.

    Args:
        grad: Any shape, with respect to the output.
        mask: As in `activate`.

    Returns:
        The gradient where the mask is 1, else 0.
    """
    return grad * (mask == 1)


def mean_pool(x: np.ndarray) -> np.ndarray:
    """Compute the mean of each feature map.

    Args:
        x: (N, C, H, W).

    Returns:
        (N, C).
    """
    return x.reshape(*x.shape[:2], -1).mean(axis=-1)


def mean_pool_backward(grad: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Compute the gradient of `mean_pool` with respect to x.

    Args:
        grad: (N, C), with respect to the output.
        rows: H.
        columns: W.

    Returns:
        (N, C, H, W).
    """
    pixel_grad = grad / (rows * columns)
    return np.tile(pixel_grad[:, :, np.newaxis, np.newaxis], (rows, columns))


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Compute ``x @ weight.T + bias``.

    Args:
        x: (N, in).
        weight: (out, in).
        bias: (out,).

    Returns:
        (N, out).
    """
    return x @ weight.T + bias


def linear_backward(
    grad: np.ndarray, x: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the gradients of `linear`.

    Args:
        grad: (N, out), with respect to the output.
        x: (N, in), the input.
        weight: (out, in).

    Returns:
        Gradients with respect to x (N, in), weight (out, in) and bias (out,).
    """
    return grad @ weight, grad.T @ x, grad.sum(axis=0)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute probabilities. The largest logit of each row is subtracted first.

    Args:
        logits: (N, classes).

    Returns:
        (N, classes), with rows that sum to 1.
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Compute the mean of ``sum(targets * (logsumexp(logits) - logits))``, and its gradient.

    The largest logit of each row is subtracted first, so that no exponential overflows (Blanchard,
    Higham & Higham, IMA J. Numer. Anal. 41, 2311 (2021)).

    Args:
        logits: (N, classes).
        labels: Class indices (N,), or target distributions (N, classes).

    Returns:
        The loss, and the gradient with respect to the logits (N, classes):
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
