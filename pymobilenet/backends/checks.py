"""Validation of the arguments of `Model` and `Backend`.

Each function returns its argument, C-contiguous, or raises a `DataError` or `ConfigError` that
states the rule and the value received.
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

SUM_TOLERANCE = 1e-5
"""Largest deviation from 1 of the sum of a distribution; float32 softmax rounds by about 1e-7."""

MISSING_OPTIONS = {
    "device": "it computes on the CPU",
    "amp": "it computes in the model's dtype",
    "distributed": "it trains in one process",
    "sync_norm": "its norms see the images of one process",
}
"""What a backend without the option does, for the error message."""

DROPOUT = "dropout"
"""The key in `masks` of the factors (N, C) that multiply the pooled features."""


def dtype(value: str | np.dtype) -> np.dtype:
    """Return float32 or float64 in the machine's byte order.

    Args:
        value: A dtype or its name.

    Raises:
        ConfigError: Another dtype, or not a dtype.
    """
    try:
        parsed = np.dtype(value)
    except TypeError:
        parsed = None
    if parsed is None or parsed.name not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}. Received: {value!r}")
    return np.dtype(parsed.name)


def options(backend: str, names: Sequence[str], values: Mapping[str, object]) -> None:
    """Check that a backend has the given options.

    Args:
        backend: The backend's name.
        names: The names of its options.
        values: The options to check.

    Raises:
        ConfigError: An option is not in `names`.
    """
    for name, value in values.items():
        if name not in names:
            reason = f"{MISSING_OPTIONS[name]}; " if name in MISSING_OPTIONS else ""
            raise ConfigError(
                f"the {backend} backend has no option {name!r}: {reason}"
                f"its options are {', '.join(names) or 'none'}. Received: {name}={value!r}"
            )


def images(config: MobileNetConfig, model_dtype: np.dtype, array: np.ndarray) -> np.ndarray:
    """Return images (N, C, H, W), C-contiguous.

    Args:
        config: The model's config, for C.
        model_dtype: The dtype the images must have.
        array: The images.

    Raises:
        DataError: Not such an array, empty, of another dtype, or not finite.
    """
    channels = config.in_channels
    is_array = isinstance(array, np.ndarray)
    if not is_array or array.ndim != 4 or array.shape[1] != channels:
        raise DataError(
            f"images must be a NumPy array (N, {channels}, H, W). Received: {_describe(array)}"
        )
    if 0 in array.shape:
        raise DataError(f"images must not be empty. Received: shape {array.shape}")
    if array.dtype != model_dtype:
        raise DataError(
            f"images must be {model_dtype}, the model's dtype: normalise them with "
            f"pymobilenet.data.normalise, or use astype. Received: {array.dtype}"
        )
    if not _all_finite(array):
        index = tuple(int(axis) for axis in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"images must be finite. Received: {array[index]} at {list(index)}")
    return np.ascontiguousarray(array)


def _all_finite(array: np.ndarray) -> bool:
    """Return whether all values are finite, without allocating an array in the usual case.

    A finite sum has finite terms. A sum that is not finite may have overflowed, so the values
    themselves are checked then.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def labels(
    config: MobileNetConfig, model_dtype: np.dtype, values: np.ndarray, count: int
) -> np.ndarray:
    """Return class indices (N,) as int64, or target distributions (N, classes).

    Args:
        config: The model's config, for the number of classes.
        model_dtype: The dtype that distributions must have.
        values: Integers in [0, classes), or distributions.
        count: N, the number of images.

    Raises:
        DataError: Another shape or dtype, a label out of range, or a row that is not a
            distribution.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.dtype.kind == "f":
        return _distributions(array, (count, config.num_classes), model_dtype)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise DataError(
            f"labels must be {count} integers, one for each image, or {model_dtype} distributions "
            f"{(count, config.num_classes)}. Received: {_describe(array)}"
        )
    outside = np.flatnonzero((array < 0) | (array >= config.num_classes))
    if outside.size:
        raise DataError(
            f"labels must be in [0, {config.num_classes}). "
            f"Received: {array[outside[0]]} at [{outside[0]}]"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def _distributions(array: np.ndarray, shape: tuple[int, int], model_dtype: np.dtype) -> np.ndarray:
    """Check that every row is a distribution over the classes."""
    if array.shape != shape or array.dtype != model_dtype:
        raise DataError(
            f"labels that are distributions must be {model_dtype} {shape}. "
            f"Received: {_describe(array)}"
        )
    if not (array >= 0).all():
        index = tuple(int(axis) for axis in np.argwhere(~(array >= 0))[0])
        raise DataError(f"labels must not be negative. Received: {array[index]} at {list(index)}")
    sums = array.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(sums - 1) <= SUM_TOLERANCE))
    if wrong.size:
        raise DataError(
            f"each row of labels must sum to 1, within {SUM_TOLERANCE}. "
            f"Received: {sums[wrong[0]]} at [{wrong[0]}]"
        )
    return np.ascontiguousarray(array)


def trainable(config: MobileNetConfig, batch: np.ndarray) -> None:
    """Check that every norm sees at least two values per channel, which a variance requires.

    PyTorch raises an error in this case; Flux returns NaN.

    Args:
        config: The model's config.
        batch: Images (N, C, H, W).

    Raises:
        DataError: One image with a last feature map of 1x1.
    """
    if len(batch) > 1:
        return
    rows, columns = last_map_size(config, *batch.shape[2:])
    if len(batch) * rows * columns < 2:
        raise DataError(
            "training needs at least two values per channel in every norm: a larger batch or "
            f"larger images. Received: batch {len(batch)} with a last map of {rows}x{columns}"
        )


def masks(
    config: MobileNetConfig,
    model_dtype: np.dtype,
    arrays: Mapping[str, np.ndarray] | None,
    batch: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return activation masks and dropout factors, C-contiguous.

    Args:
        config: The model's config.
        model_dtype: The dtype of dropout factors.
        arrays: Masks by name; see `Model.loss_and_grads`.
        batch: Images (N, C, H, W), for the shapes.

    Raises:
        DataError: An unknown name, or a wrong shape, dtype or value.
    """
    if not arrays:
        return {}
    count, _, height, width = batch.shape
    shapes: dict[str, tuple[int, ...]] = {DROPOUT: (count, feature_channels(config))}
    for layer in layers(config):
        height, width = layer.output_size(height), layer.output_size(width)
        if layer.activation:
            shapes[f"{layer.name}.act"] = (count, layer.out_channels, height, width)
    checked = {}
    for name, mask in arrays.items():
        expected = model_dtype if name == DROPOUT else np.dtype(np.uint8)
        has_shape = isinstance(mask, np.ndarray) and mask.shape == shapes.get(name)
        if not has_shape or mask.dtype != expected:
            raise DataError(
                f"masks[{name!r}] must be {expected} "
                f"{shapes.get(name, '(no such activation)')}. Received: {_describe(mask)}"
            )
        checked[name] = np.ascontiguousarray(mask)
        _check_mask_values(name, mask, 2 if config.activation == "relu6" else 1)
    return checked


def _check_mask_values(name: str, mask: np.ndarray, largest: int) -> None:
    if name == DROPOUT and not np.isfinite(mask).all():
        raise DataError(f"masks[{name!r}] must be finite. Received: {mask[~np.isfinite(mask)][0]}")
    if name != DROPOUT and mask.max() > largest:
        raise DataError(f"masks[{name!r}] must be in 0..{largest}. Received: {mask.max()}")


def batch(
    config: MobileNetConfig, model_dtype: np.dtype, arrays: Batch, micro_batches: int = 1
) -> Batch:
    """Return a checked training batch.

    Args:
        config: The model's config.
        model_dtype: The model's dtype.
        arrays: Images, labels and masks.
        micro_batches: The number of equal slices the batch must divide into.

    Raises:
        DataError: The batch does not divide, a norm would see one value per channel, or an array
            is invalid.
    """
    checked_images = images(config, model_dtype, arrays.images)
    count = len(checked_images)
    checked_labels = labels(config, model_dtype, arrays.labels, count)
    if count % micro_batches:
        raise DataError(
            f"the number of images must be a multiple of the optimizer's accumulate, "
            f"{micro_batches}. Received: {count}"
        )
    trainable(config, checked_images[: count // micro_batches])
    checked_masks = masks(config, model_dtype, arrays.masks, checked_images)
    return Batch(checked_images, checked_labels, checked_masks)


def rate(value: float) -> float:
    """Return a learning rate as a float.

    Args:
        value: Any real number type but bool.

    Raises:
        ConfigError: Not a finite number of at least 0.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= sys.float_info.max:
        raise ConfigError(f"rate must be a finite number, at least 0. Received: {value!r}")
    return float(value)


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    return type(value).__name__
