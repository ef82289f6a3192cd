"""The probe a saved model carries: a seeded input, and the logits it gave where it was written.

In a file's metadata it is the JSON text ``probe``:

- ``seed`` and ``shape`` (N, C, H, W): the images are ``2 u - 1`` for u uniform in [0, 1) from the
  words of stream PROBE, epoch 7, index 0, in row-major order, rounded to float32;
- ``digest``: SHA-256 of those images' little-endian float32 bytes, in hex;
- ``float64`` and ``float32``: the logits (N, classes) of the saved values in either dtype.
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

IMAGES = 2
LARGEST = 64
"""Pixels: a probe is to cost little; wrong weights show at any size."""

LARGEST_PROBE = 2**24
"""Values in the images of a probe that is read."""

_EPOCH = 7


@dataclass(frozen=True)
class Probe:
    """What the text holds; see the top of this file."""

    seed: int
    shape: tuple[int, int, int, int]
    digest: str
    float64: list[list[float]]
    float32: list[list[float]]

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, source: str) -> Probe:
        """Read the text of the file `source`.

        Raises:
            WeightsError: Not the JSON of a probe, or not that of logits of one shape.
        """
        try:
            values = parse_object(text)
            _require(
                sorted(values) == sorted(cls.__annotations__),
                "it must have exactly digest, float32, float64, seed and shape",
            )
            seed, shape = values["seed"], values["shape"]
            _require(_is_count(seed), f"seed must be a whole number. Received: {seed!r}")
            is_images = isinstance(shape, list) and len(shape) == 4 and all(map(_is_count, shape))
            _require(
                is_images and 1 <= math.prod(shape) <= LARGEST_PROBE,
                f"shape must be that of images. Received: {shape!r}",
            )
            wide, narrow = (_checked_logits(values[d], shape[0], d) for d in ("float64", "float32"))
            _require(len(wide[0]) == len(narrow[0]), "the logits must be of one shape")
        except ValueError as error:
            raise WeightsError(f"{source}: metadata {keys.PROBE}: {error}") from None
        return cls(seed, tuple(shape), values["digest"], wide, narrow)


def _require(rule: bool, message: str) -> None:
    if not rule:
        raise ValueError(message)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _checked_logits(rows: Any, count: int, name: str) -> list[list[float]]:
    def is_row(row: object) -> bool:
        return isinstance(row, list) and all(type(value) in (int, float) for value in row)

    is_rows = isinstance(rows, list) and len(rows) == count and all(map(is_row, rows))
    is_even = is_rows and bool(rows[0]) and len({len(row) for row in rows}) == 1
    _require(is_even, f"{name} must be the logits of {count} images")
    return rows


def images(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """The images (N, C, H, W) of a probe, float32 in [-1, 1)."""
    words = raw_words(seed, Stream.PROBE, _EPOCH, 0, math.prod(shape))
    return (2.0 * uniform64(words) - 1.0).astype(np.float32).reshape(shape)


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()


def shape_for(config: MobileNetConfig) -> tuple[int, int, int, int]:
    side = min(config.resolution, LARGEST)
    return (IMAGES, config.in_channels, side, side)


def probe(model: Model, seed: int = 0) -> Probe:
    """What `model` says to the images of `seed`, in each dtype its backend computes in."""
    shape = shape_for(model.config)
    given = images(seed, shape)
    wide = logits(model, given, "float64")
    narrow = logits(model, given, "float32") if model.backend.computes("float32") else wide
    return Probe(seed, shape, digest(given), _rows(wide), _rows(narrow.astype(np.float32)))


def probe_metadata(model: Model) -> dict[str, str]:
    """The metadata by which a saved model can be verified: none where its logits overflow."""
    found = probe(model)
    return (
        {keys.PROBE: found.to_json()} if np.isfinite([found.float64, found.float32]).all() else {}
    )


def logits(model: Model, given: np.ndarray, dtype: str) -> np.ndarray:
    """Logits (N, classes) of the model's values in `dtype`, by the model's own backend."""
    state = {
        name: tensor.astype(dtype)
        for name, tensor in model.get_state().items()
        if not name.startswith("optimizer.")
    }
    replica = model.backend.from_state(model.config, state)
    return replica.activations(given.astype(dtype))["logits"]


def _rows(values: np.ndarray) -> list[list[float]]:
    return [[float(value) for value in row] for row in values]
