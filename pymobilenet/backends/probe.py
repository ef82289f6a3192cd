"""The probe of a saved model: generated images, and their logits where the file was written.

`pymobilenet.parity.verify` recomputes the logits to check a file on another machine or backend. In
a file's metadata, the probe is the JSON text ``probe``:

- ``seed`` and ``shape`` (N, C, H, W): the images are ``2 u - 1`` with u uniform in [0, 1), from the
  words of Philox stream PROBE, epoch 7, index 0, in row-major order, rounded to float32;
- ``digest``: SHA-256 of the images' little-endian float32 bytes, in hexadecimal;
- ``float64`` and ``float32``: the logits (N, classes), computed in either dtype.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.philox import Stream, raw_words, uniform64
from pymobilenet.strict_json import parse_object

if TYPE_CHECKING:
    from pymobilenet.backends.base import Model
    from pymobilenet.weights import State

IMAGE_COUNT = 2
LARGEST_SIDE = 64
"""Pixels. Small images keep a probe cheap; wrong weights show at any size."""

LARGEST_PROBE = 2**24
"""Limit for the number of image values of a probe that is read."""

_EPOCH = 7


@dataclass(frozen=True)
class Probe:
    """A probe; the fields are those of the JSON text described in this module.

    Attributes:
        seed: Seed of the images.
        shape: (N, C, H, W).
        digest: SHA-256 of the images, in hexadecimal.
        float64: Logits, N rows of `classes` numbers, computed in float64.
        float32: The same, computed in float32.
    """

    seed: int
    shape: tuple[int, int, int, int]
    digest: str
    float64: list[list[float]]
    float32: list[list[float]]

    def to_json(self) -> str:
        """Return the JSON text, with sorted keys and without spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, source: str) -> Probe:
        """Parse and validate a probe.

        Args:
            text: The JSON text.
            source: Name of the file, for error messages.

        Returns:
            The probe.

        Raises:
            WeightsError: The text is not a valid probe.
        """
        try:
            values = parse_object(text)
            _require(
                sorted(values) == sorted(cls.__annotations__),
                "it must have exactly digest, float32, float64, seed and shape",
            )
            seed, shape = values["seed"], values["shape"]
            _require(_is_count(seed), f"seed must be a whole number. Received: {seed!r}")
            is_shape = isinstance(shape, list) and len(shape) == 4 and all(map(_is_count, shape))
            _require(
                is_shape and 1 <= math.prod(shape) <= LARGEST_PROBE,
                f"shape must be that of images. Received: {shape!r}",
            )
            float64, float32 = (
                _checked_logits(values[dtype], shape[0], dtype) for dtype in ("float64", "float32")
            )
            _require(len(float64[0]) == len(float32[0]), "the logits must be of one shape")
        except ValueError as error:
            raise WeightsError(f"{source}: metadata {keys.PROBE}: {error}") from None
        return cls(seed, tuple(shape), values["digest"], float64, float32)


def _require(rule: bool, message: str) -> None:
    if not rule:
        raise ValueError(message)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _checked_logits(rows: Any, count: int, name: str) -> list[list[float]]:
    def is_row(row: object) -> bool:
        return isinstance(row, list) and all(type(value) in (int, float) for value in row)

    is_rows = isinstance(rows, list) and len(rows) == count and all(map(is_row, rows))
    is_matrix = is_rows and bool(rows[0]) and len({len(row) for row in rows}) == 1
    _require(is_matrix, f"{name} must be the logits of {count} images")
    return rows


def images(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Generate the images of a probe.

    Args:
        seed: In [0, 2**63).
        shape: (N, C, H, W).

    Returns:
        float32 in [-1, 1), of this shape.
    """
    words = raw_words(seed, Stream.PROBE, _EPOCH, 0, math.prod(shape))
    return (2.0 * uniform64(words) - 1.0).astype(np.float32).reshape(shape)


def digest(values: np.ndarray) -> str:
    """Return the SHA-256 of an array's little-endian float32 bytes, in hexadecimal.

    Args:
        values: Any shape.
    """
    return hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()


def shape_for(config: MobileNetConfig) -> tuple[int, int, int, int]:
    """Return the image shape (N, C, H, W) of a new probe.

    Args:
        config: The model's config.
    """
    side = min(config.resolution, LARGEST_SIDE)
    return (IMAGE_COUNT, config.in_channels, side, side)


def probe(model: Model, seed: int = 0, state: State | None = None) -> Probe:
    """Compute a probe of a model, in each dtype that its backend supports.

    Args:
        model: Of any backend.
        seed: Seed of the images, in [0, 2**63).
        state: What `model.get_state()` returns, if the caller has it.

    Returns:
        The probe. A backend without float32 gives the float64 logits, rounded to float32.
    """
    shape = shape_for(model.config)
    probe_images = images(seed, shape)
    state = model.get_state() if state is None else state
    float64 = logits(model, probe_images, "float64", state)
    has_float32 = model.backend.supports_dtype("float32")
    float32 = logits(model, probe_images, "float32", state) if has_float32 else float64
    return Probe(
        seed, shape, digest(probe_images), _rows(float64), _rows(float32.astype(np.float32))
    )


def probe_metadata(model: Model, state: State | None = None) -> dict[str, str]:
    """Return the metadata entry of a model's probe; empty if its logits are not finite.

    Args:
        model: Of any backend.
        state: What `model.get_state()` returns, if the caller has it.
    """
    result = probe(model, state=state)
    is_finite = np.isfinite([result.float64, result.float32]).all()
    return {keys.PROBE: result.to_json()} if is_finite else {}


def logits(model: Model, images: np.ndarray, dtype: str, state: State | None = None) -> np.ndarray:
    """Compute logits with a model's weights cast to `dtype`, in the model's backend.

    A model of this dtype computes them itself. For another dtype, and for a model with options or
    an optimizer, whose memory layout may round differently, a replica with default options does.

    Args:
        model: Of any backend.
        images: (N, C, H, W).
        dtype: "float32" or "float64".
        state: What `model.get_state()` returns, if the caller has it.

    Returns:
        (N, classes), of this dtype.
    """
    if model.dtype != dtype or model.options or model.optimizer is not None:
        state = model.get_state() if state is None else state
        with np.errstate(over="ignore"):
            state = {name: state[name].astype(dtype, copy=False) for name in state}
        model = model.backend.from_checked_state(model.config, state)
    return model.activations(images.astype(dtype))["logits"]


def _rows(values: np.ndarray) -> list[list[float]]:
    return [[float(value) for value in row] for row in values]
