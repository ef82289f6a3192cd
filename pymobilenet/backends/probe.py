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
from typing import TYPE_CHECKING

import numpy as np

from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.philox import Stream, raw_words, uniform64

if TYPE_CHECKING:
    from pymobilenet.backends.base import Model

PROBE = "probe"
"""Its key in a file's metadata."""

IMAGES = 2
LARGEST = 64
"""Pixels: a probe is to cost little; wrong weights show at any size."""

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
            values = json.loads(text)
            probe = cls(**{**values, "shape": tuple(map(int, values["shape"]))})
            logits = [np.array(rows, np.float64) for rows in (probe.float64, probe.float32)]
            counts = {rows.shape for rows in logits}
            if len(counts) != 1 or logits[0].ndim != 2 or len(logits[0]) != probe.shape[0]:
                raise ValueError(f"logits of shapes {sorted(counts)} for {probe.shape[0]} images")
            if not 1 <= math.prod(probe.shape) <= 2**24 or len(probe.shape) != 4:
                raise ValueError(f"images of shape {probe.shape}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{source}: metadata {PROBE}: {error}") from None
        return probe


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


def logits(model: Model, given: np.ndarray, dtype: str) -> np.ndarray:
    """Logits (N, classes) of the model's values in `dtype`, by the model's own backend."""
    state = {
        name: tensor.astype(dtype)
        for name, tensor in model.get_state().items()
        if not name.startswith("optimizer.")
    }
    twin = model.backend.from_state(model.config, state)
    return twin.activations(given.astype(dtype))["logits"]


def _rows(values: np.ndarray) -> list[list[float]]:
    return [[float(value) for value in row] for row in values]
