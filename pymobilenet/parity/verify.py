"""Does a file still give the logits it gave where it was written?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.backends import backend
from pymobilenet.backends.base import Backend
from pymobilenet.backends.probe import Probe, digest, images, logits
from pymobilenet.errors import WeightsError
from pymobilenet.formats import Loaded
from pymobilenet.formats.exchange import WeightsFile
from pymobilenet.parity.floors import DRAWS, distance, least, move_parameters, move_ulps
from pymobilenet.parity.judge import ALL_WITHIN
from pymobilenet.weights import State

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Check:
    """One backend's logits in one dtype against the file's.

    Attributes:
        error: Norm of the difference over the norm of the file's logits.
        floor: What rounding does to these logits in this backend: their largest move when weights
            and images are moved by one unit in the last place, five times.
    """

    backend: str
    dtype: str
    error: float
    floor: float

    @property
    def allowed(self) -> float:
        return ALL_WITHIN * self.floor

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed


def verify(file: WeightsFile | Loaded, names: Sequence[str], source: str) -> list[Check]:
    """Recompute the probe of `file`, read from `source`, in the backends of these `names`.

    Raises:
        WeightsError: The file has no probe, a broken one, or one for other images than its seed's.
        BackendUnavailable: One of them cannot be had.
    """
    if keys.PROBE not in file.metadata:
        raise WeightsError(
            f"{source}: has no probe: it was written without, or by another program. Load it where "
            "it is known to be right, and save it there"
        )
    found = Probe.from_json(file.metadata[keys.PROBE], source)
    wanted = (file.config.num_classes, file.config.in_channels)
    received = (len(found.float64[0]), found.shape[1])
    if wanted != received:
        raise WeightsError(
            f"{source}: metadata {keys.PROBE}: classes and channels must be {wanted}. "
            f"Received: {received}"
        )
    given = images(found.seed, found.shape)
    if digest(given) != found.digest:
        raise WeightsError(
            f"{source}: the probe's images are not those of its seed {found.seed}: "
            f"their digest must be {digest(given)}. Received: {found.digest}"
        )
    pairs = [(backend(name), dtype) for name in names for dtype in DTYPES]
    return [_check(one, dtype, file, found, given) for one, dtype in pairs if one.computes(dtype)]


def _check(
    one: Backend, dtype: str, file: WeightsFile | Loaded, found: Probe, given: np.ndarray
) -> Check:
    expected = np.array(getattr(found, dtype))
    weights = {k: v.astype(dtype) for k, v in file.state.items() if not k.startswith("optimizer.")}

    def say(state: State, to: np.ndarray) -> np.ndarray:
        return logits(one.from_state(file.config, state), to, dtype)

    base = say(weights, given)
    draws = (
        say(move_parameters(weights, draw), move_ulps(given.astype(dtype), draw, 1000))
        for draw in range(DRAWS)
    )
    floor = max(least(dtype), *(distance(moved, base) for moved in draws))
    return Check(one.name, dtype, distance(base, expected), floor)
