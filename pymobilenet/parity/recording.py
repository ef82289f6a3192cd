"""Recordings: what a live Julia gave in a scenario, kept to be compared where no Julia is.

A recording is a small safetensors file. Of a large tensor it keeps evenly spaced elements; errors
and floors are then taken over the same elements. It carries the digest of its inputs, and is
refused for any others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pymobilenet.backends.base import Backend
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.data import Dataset, synthetic
from pymobilenet.errors import BackendUnavailable, WeightsError
from pymobilenet.formats import safetensors_file
from pymobilenet.parity.curves import free_losses
from pymobilenet.parity.observe import Key, Observations, SharedMasks, observe
from pymobilenet.parity.scenario import Inputs, Scenario
from pymobilenet.training import Batches

FORMAT = "pymobilenet-recording-1"
KEPT = 128
"""Elements kept of a tensor that has more."""

CURVE_STEPS = 10
CURVES = {
    "calm": TrainConfig(optimizer="adam", rate=1e-4),
    "free": TrainConfig(optimizer="sgd", rate=0.1),
}
"""The free runs of level 4: a calm regime, where digits stay, and the working recipe."""

RECORDED_CURVES = ("calm",)
"""The runs that a recording keeps: at working rates, too few steps come before the first flip."""

_SMALL = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100, stem_stride=1)
_SECOND = MobileNetConfig("v2", width_mult=0.35, resolution=32, num_classes=100)
STANDARD = tuple(
    Scenario(config, dtype)
    for config in (_SMALL, dataclasses.replace(_SMALL, stem_stride=2), _SECOND)
    for dtype in ("float64", "float32")
)
"""The scenarios that are recorded."""


@dataclass(frozen=True)
class Recording:
    """A replayed backend: its observations (thinned) and loss curves in one scenario."""

    backend: str
    scenario: Scenario
    versions: dict[str, str]
    machine: str
    digest: str
    observations: Observations
    curves: dict[str, np.ndarray]


def recording_images() -> Dataset:
    """The images of all recordings: generated, the same bits everywhere."""
    return synthetic(num_images=4096, split="train", num_classes=100, seed=0)


def thin(seen: Observations) -> Observations:
    """At most `KEPT` evenly spaced elements of each tensor; logits whole."""
    return {
        key: value if key.name == "logits" or value.size <= KEPT else _spaced(value)
        for key, value in seen.items()
    }


def _spaced(value: np.ndarray) -> np.ndarray:
    return value.ravel()[np.linspace(0, value.size - 1, KEPT).astype(int)]


def inputs_digest(inputs: Inputs, shared_masks: SharedMasks) -> str:
    """sha256 in hex over all that a scenario's model is given, the oracle's masks included."""
    hasher = hashlib.sha256(inputs.digest().encode())
    for steps in shared_masks.masks.values():
        for masks in steps:
            for name in sorted(masks):
                hasher.update(name.encode())
                hasher.update(np.ascontiguousarray(masks[name]).data)
    return hasher.hexdigest()


def record(
    backend: Backend,
    scenario: Scenario,
    inputs: Inputs,
    shared_masks: SharedMasks,
    path: str | Path,
) -> Recording:
    """Run `scenario` in a live Julia and write what it gave to `path`.

    Raises:
        BackendUnavailable: `backend` is not Julia: only a live Julia can be recorded.
    """
    if backend.name != "julia":
        raise BackendUnavailable(
            f"only a live Julia backend can be recorded. Received: {backend.name}"
        )
    model = backend.build(scenario.config, dtype=scenario.dtype)
    seen = thin(observe(model, inputs, shared_masks))
    curves = {}
    for title in RECORDED_CURVES if scenario.dtype == "float64" else ():
        train = CURVES[title]
        batches = Batches(recording_images(), train, scenario.config, scenario.dtype)
        curves[title] = free_losses(model, inputs.state, batches, CURVE_STEPS)
    recording = Recording(
        backend=backend.name,
        scenario=scenario,
        versions=backend.versions(),
        machine=f"{platform.system()} {platform.machine()}",
        digest=inputs_digest(inputs, shared_masks),
        observations=seen,
        curves=curves,
    )
    _write(path, recording)
    return recording


def _write(path: str | Path, recording: Recording) -> None:
    tensors = {str(key): np.asarray(value) for key, value in recording.observations.items()}
    tensors |= {f"curve/{title}": losses for title, losses in recording.curves.items()}
    about = {
        "format": FORMAT,
        "backend": recording.backend,
        "scenario": dataclasses.asdict(recording.scenario),
        "versions": recording.versions,
        "machine": recording.machine,
        "digest": recording.digest,
        "order": [str(key) for key in recording.observations],
    }
    metadata = {name: json.dumps(value, sort_keys=True) for name, value in about.items()}
    safetensors_file.write(path, tensors, metadata)


def read_recording(path: str | Path) -> Recording:
    """Read a recording.

    Raises:
        WeightsError: the file is no recording, or not a whole one.
    """
    tensors, metadata = safetensors_file.read(path)
    try:
        about = {name: json.loads(value) for name, value in metadata.items()}
        if about["format"] != FORMAT:
            raise WeightsError(f"{path}: format must be {FORMAT}. Received: {about['format']}")
        fields = about["scenario"]
        fields["config"] = MobileNetConfig.from_dict(fields["config"])
        return Recording(
            backend=about["backend"],
            scenario=Scenario(**fields),
            versions=about["versions"],
            machine=about["machine"],
            digest=about["digest"],
            observations={Key.parse(text): tensors[text] for text in about["order"]},
            curves={
                name.removeprefix("curve/"): tensor
                for name, tensor in tensors.items()
                if name.startswith("curve/")
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path} is no recording of this package: {error!r}") from None


def check_inputs(recording: Recording, inputs: Inputs, shared_masks: SharedMasks) -> None:
    """Refuse to replay a recording on inputs other than those it was made on."""
    received = inputs_digest(inputs, shared_masks)
    if received != recording.digest:
        raise WeightsError(
            f"the recording of {recording.scenario.name} was made on inputs with digest "
            f"{recording.digest[:16]}; a replay needs the same. Received: {received[:16]}"
        )


def goldens() -> Path:
    """The folder of the recordings: in the wheel beside this file, in a checkout in parity/."""
    here = Path(__file__).parent
    return here / "goldens" if (here / "goldens").is_dir() else here.parents[1] / "parity/goldens"


def read_goldens(folder: Path | None = None) -> list[Recording]:
    """All recordings of `folder`, in the order of their names.

    Raises:
        BackendUnavailable: there is none.
    """
    folder = folder or goldens()
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise BackendUnavailable(
            f"{folder} holds no recordings: run `pymobilenet record` where Julia is"
        )
    return [read_recording(path) for path in paths]
