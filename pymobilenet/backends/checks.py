"""What a model refuses to compute with: each check says what it received and the rule it broke.

The functions give back what they were given, C-contiguous, or raise a `DataError` or `ConfigError`.
"""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from pymobilenet.architecture import feature_channels, last_map_size, layers
from pymobilenet.backends.batch import Batch
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError, DataError

DTYPES = ("float32", "float64")

SUM_WITHIN = 1e-5
"""How far from 1 the sum of a distribution may be: a float32 softmax rounds it by some 1e-7."""

WITHOUT = {
    "device": "it computes on the CPU",
    "amp": "it computes in the model's dtype",
    "distributed": "it trains in one process",
    "sync_norm": "its norms see the images of one process",
}
"""What is true of a backend that does not have the option."""

DROPOUT = "dropout"
"""The name in `masks` of the factors (N, C) the pooled features are multiplied with."""


def dtype(wanted: str | np.dtype) -> np.dtype:
    """float32 or float64, in the machine's byte order."""
    try:
        known = np.dtype(wanted)
    except TypeError:
        known = None
    if known is None or known.name not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}. Received: {wanted!r}")
    return np.dtype(known.name)


def options(backend: str, known: Sequence[str], received: Mapping[str, object]) -> None:
    """Options that the backend has."""
    for name, value in received.items():
        if name not in known:
            why = f"{WITHOUT[name]}; " if name in WITHOUT else ""
            raise ConfigError(
                f"the {backend} backend has no option {name!r}: {why}"
                f"its options are {', '.join(known) or 'none'}. Received: {name}={value!r}"
            )


def images(config: MobileNetConfig, kind: np.dtype, received: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) of dtype `kind`, finite, at least one."""
    channels = config.in_channels
    is_array = isinstance(received, np.ndarray)
    if not is_array or received.ndim != 4 or received.shape[1] != channels:
        raise DataError(
            f"images must be a NumPy array (N, {channels}, H, W). Received: {_describe(received)}"
        )
    if 0 in received.shape:
        raise DataError(f"images must not be empty. Received: shape {received.shape}")
    if received.dtype != kind:
        raise DataError(
            f"images must be {kind}, the model's dtype: normalise them with "
            f"pymobilenet.data.normalise, or use astype. Received: {received.dtype}"
        )
    if not _all_finite(received):
        at = tuple(int(axis) for axis in np.argwhere(~np.isfinite(received))[0])
        raise DataError(f"images must be finite. Received: {received[at]} at {list(at)}")
    return np.ascontiguousarray(received)


def _all_finite(values: np.ndarray) -> bool:
    """A finite sum has finite terms, and asks for no memory between two steps, which takes longer
    than the sum. One that is not finite may only be too large.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


def labels(config: MobileNetConfig, kind: np.dtype, received: np.ndarray, count: int) -> np.ndarray:
    """Labels (N,) as int64, one in [0, classes) for each of `count` images, or targets
    (N, classes) of dtype `kind`, a distribution for each.
    """
    found = np.asarray(received)
    if found.ndim == 2 and found.dtype.kind == "f":
        return _targets(found, (count, config.num_classes), kind)
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise DataError(
            f"labels must be {count} integers, one for each image, or {kind} distributions "
            f"{(count, config.num_classes)}. Received: {_describe(found)}"
        )
    outside = np.flatnonzero((found < 0) | (found >= config.num_classes))
    if outside.size:
        raise DataError(
            f"labels must be in [0, {config.num_classes}). "
            f"Received: {found[outside[0]]} at [{outside[0]}]"
        )
    return np.ascontiguousarray(found, dtype=np.int64)


def _targets(found: np.ndarray, shape: tuple[int, int], kind: np.dtype) -> np.ndarray:
    """A distribution over the classes in every row."""
    if found.shape != shape or found.dtype != kind:
        raise DataError(
            f"labels that are distributions must be {kind} {shape}. Received: {_describe(found)}"
        )
    if not (found >= 0).all():
        at = tuple(int(axis) for axis in np.argwhere(~(found >= 0))[0])
        raise DataError(f"labels must not be negative. Received: {found[at]} at {list(at)}")
    sums = found.sum(axis=1, dtype=np.float64)
    off = np.flatnonzero(~(np.abs(sums - 1) <= SUM_WITHIN))
    if off.size:
        raise DataError(
            f"each row of labels must sum to 1, within {SUM_WITHIN}. "
            f"Received: {sums[off[0]]} at [{off[0]}]"
        )
    return np.ascontiguousarray(found)


def trainable(config: MobileNetConfig, received: np.ndarray) -> None:
    """A norm needs two values a channel to have a variance; torch refuses, Flux gives NaN."""
    if len(received) > 1:
        return
    rows, columns = last_map_size(config, *received.shape[2:])
    if len(received) * rows * columns < 2:
        raise DataError(
            "training needs at least two values per channel in every norm: a larger batch or "
            f"larger images. Received: batch {len(received)} with a last map of {rows}x{columns}"
        )


def masks(
    config: MobileNetConfig,
    kind: np.dtype,
    received: Mapping[str, np.ndarray] | None,
    batch: np.ndarray,
) -> dict[str, np.ndarray]:
    """Masks whose names, shapes, dtypes and values are possible for the activations of `batch`."""
    if not received:
        return {}
    count, _, height, width = batch.shape
    shapes: dict[str, tuple[int, ...]] = {DROPOUT: (count, feature_channels(config))}
    for layer in layers(config):
        height, width = layer.output_size(height), layer.output_size(width)
        if layer.activation:
            shapes[f"{layer.name}.act"] = (count, layer.out_channels, height, width)
    checked = {}
    for name, mask in received.items():
        wanted = kind if name == DROPOUT else np.dtype(np.uint8)
        fits = isinstance(mask, np.ndarray) and mask.shape == shapes.get(name)
        if not fits or mask.dtype != wanted:
            raise DataError(
                f"masks[{name!r}] must be {wanted} {shapes.get(name, '(no such activation)')}. "
                f"Received: {_describe(mask)}"
            )
        checked[name] = np.ascontiguousarray(mask)
        _check_values(name, mask, 2 if config.activation == "relu6" else 1)
    return checked


def _check_values(name: str, mask: np.ndarray, largest: int) -> None:
    if name == DROPOUT and not np.isfinite(mask).all():
        raise DataError(f"masks[{name!r}] must be finite. Received: {mask[~np.isfinite(mask)][0]}")
    if name != DROPOUT and mask.max() > largest:
        raise DataError(f"masks[{name!r}] must be in 0..{largest}. Received: {mask.max()}")


def batch(
    config: MobileNetConfig, kind: np.dtype, received: Batch, micro_batches: int = 1
) -> Batch:
    """A checked training batch that divides into `micro_batches` equal slices."""
    found = images(config, kind, received.images)
    wanted = labels(config, kind, received.labels, len(found))
    if len(found) % micro_batches:
        raise DataError(
            f"the number of images must be a multiple of the optimizer's accumulate, "
            f"{micro_batches}. Received: {len(found)}"
        )
    trainable(config, found[: len(found) // micro_batches])
    return Batch(found, wanted, masks(config, kind, received.masks, found))


def rate(received: float) -> float:
    """A learning rate: a finite number, at least 0."""
    is_number = isinstance(received, numbers.Real) and not isinstance(received, bool)
    if not is_number or not 0 <= received <= sys.float_info.max:
        raise ConfigError(f"rate must be a finite number, at least 0. Received: {received!r}")
    return float(received)


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    return type(value).__name__
