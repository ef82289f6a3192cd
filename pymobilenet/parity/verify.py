"""Verify that a file gives the same logits as on the machine that wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.backends import backend
from pymobilenet.backends.base import Backend
from pymobilenet.backends.probe import Probe, digest, images, logits
from pymobilenet.errors import WeightsError
from pymobilenet.formats import Loaded
from pymobilenet.formats.exchange import WeightsFile
from pymobilenet.formats.sample import Sample, output_distance, sample_floor
from pymobilenet.parity.floors import IMAGES_INDEX, min_floor
from pymobilenet.parity.tolerances import DRAWS, MAX_RATIO
from pymobilenet.weights import State
from pymobilenet.weights.perturb import distance, move_parameters, move_ulps

PROBE_DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class ProbeCheck:
    """The logits of one backend in one dtype, compared with the file's.

    Attributes:
        backend: The backend's name.
        dtype: float64 or float32.
        error: Norm of the difference over the norm of the file's logits.
        floor: The largest relative move of this backend's logits when weights and images are moved
            by one unit in the last place, over `tolerances.DRAWS` draws.
    """

    backend: str
    dtype: str
    error: float
    floor: float

    @property
    def allowed(self) -> float:
        """The largest error that passes: `tolerances.MAX_RATIO` floors."""
        return MAX_RATIO * self.floor

    @property
    def passed(self) -> bool:
        """Whether the error is at most the allowed one."""
        return self.error <= self.allowed


def verify(
    file: WeightsFile | Loaded, names: Sequence[str | Backend], source: str
) -> list[ProbeCheck]:
    """Recompute the logits of a file's probe in some backends.

    The probe is a seeded input of two images, saved with its logits in float64 and float32.

    Args:
        file: The weights, the config and the metadata that were read.
        names: The backends or their names.
        source: The name of the file, for messages.

    Returns:
        A check for each backend and each dtype that it computes in.

    Raises:
        WeightsError: The file has no probe, a broken one, or one whose images are not those of its
            seed.
        BackendUnavailable: A backend is not installed.
    """
    if keys.PROBE not in file.metadata:
        raise WeightsError(
            f"{source}: has no probe: it was written without one, or by another program. Load the "
            "file where it is known to be right, and save it there"
        )
    probe = Probe.from_json(file.metadata[keys.PROBE], source)
    expected = (file.config.num_classes, file.config.in_channels)
    received = (len(probe.float64[0]), probe.shape[1])
    if expected != received:
        raise WeightsError(
            f"{source}: metadata {keys.PROBE}: classes and channels must be {expected}. "
            f"Received: {received}"
        )
    pixels = images(probe.seed, probe.shape)
    if digest(pixels) != probe.digest:
        raise WeightsError(
            f"{source}: the probe's images are not those of its seed {probe.seed}: "
            f"their digest must be {digest(pixels)}. Received: {probe.digest}"
        )
    pairs = [(one, dtype) for one in _backends(names) for dtype in PROBE_DTYPES]
    return [
        _check(one, dtype, file, probe, pixels) for one, dtype in pairs if one.supports_dtype(dtype)
    ]


def verify_sample(
    loaded: Loaded, sample: Sample, names: Sequence[str | Backend]
) -> list[ProbeCheck]:
    """Compare the outputs that the original net gave with those of backends.

    Args:
        loaded: The model.
        sample: Inputs and outputs of the net it comes from.
        names: The backends or their names.

    Returns:
        A check for each backend and dtype. Its floor is how far rounding moves the outputs in the
        dtype of the weights, since nothing is known of how the original rounds.

    Raises:
        BackendUnavailable: A backend cannot be loaded.
    """
    checks = []
    weights = {k: v for k, v in loaded.state.items() if _is_weight(k)}
    config = replace(loaded.config, softmax=False)
    floor = sample_floor(config, weights, sample)
    for chosen in _backends(names):
        for dtype in filter(chosen.supports_dtype, PROBE_DTYPES):
            model = chosen.from_state(config, {k: v.astype(dtype) for k, v in weights.items()})
            error = output_distance(model.predict(sample.inputs.astype(dtype)), sample.outputs)
            checks.append(ProbeCheck(chosen.name, dtype, error, floor))
    return checks


def _backends(names: Sequence[str | Backend]) -> list[Backend]:
    return [backend(one) if isinstance(one, str) else one for one in names]


def _is_weight(name: str) -> bool:
    return not name.startswith("optimizer.")


def _check(
    backend: Backend, dtype: str, file: WeightsFile | Loaded, probe: Probe, pixels: np.ndarray
) -> ProbeCheck:
    expected = np.array(getattr(probe, dtype))
    weights = {k: v.astype(dtype) for k, v in file.state.items() if not k.startswith("optimizer.")}

    def compute_logits(state: State, batch: np.ndarray) -> np.ndarray:
        return logits(backend.from_state(file.config, state), batch, dtype)

    base = compute_logits(weights, pixels)
    draws = (
        compute_logits(
            move_parameters(weights, draw), move_ulps(pixels.astype(dtype), draw, IMAGES_INDEX)
        )
        for draw in range(DRAWS)
    )
    floor = max(min_floor(dtype), *(distance(moved, base) for moved in draws))
    return ProbeCheck(backend.name, dtype, distance(base, expected), floor)
