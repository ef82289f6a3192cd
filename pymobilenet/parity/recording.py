"""Recordings: Julia's results in a scenario, to compare with where no Julia is installed.

A recording is a small safetensors file. Of a large tensor it holds evenly spaced elements; errors
and floors are then those of the same elements. It holds the digest of its inputs, and is refused
for any others.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.backends.base import Backend
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.data import Dataset, synthetic
from pymobilenet.errors import BackendUnavailable, WeightsError
from pymobilenet.formats import safetensors_file
from pymobilenet.parity.curves import free_losses
from pymobilenet.parity.observe import Key, Observations, observe
from pymobilenet.parity.scenario import STANDARD_CONFIGS, Inputs, Scenario, resized
from pymobilenet.training import Batches

FORMAT = "pymobilenet-recording-1"
MAX_ELEMENTS = 64
"""Elements that a recording holds of a larger tensor."""

CURVE_STEPS = 10
CURVE_RECIPES = {
    "calm": TrainConfig(optimizer="adam", rate=1e-4, batch_size=33, accumulate=3),
    "free": TrainConfig(optimizer="sgd", rate=0.1, batch_size=33, label_smoothing=0.1),
}
"""The free runs of level 4: a calm regime, in which two runs do not diverge, and a working rate."""

RECORDED_CURVES = ("calm",)
"""The runs that a recording holds: at working rates, too few steps come before the first flip."""

STANDARD_SCENARIOS = tuple(
    Scenario(config, dtype) for config in STANDARD_CONFIGS for dtype in ("float64", "float32")
)
"""The scenarios that are recorded."""


@dataclass(frozen=True)
class Recording:
    """The results of a backend in one scenario.

    Attributes:
        backend: The backend's name.
        scenario: What was run.
        versions: Library -> version.
        machine: Operating system and processor architecture.
        digest: Of the inputs with activation masks (`Inputs.digest`).
        observations: The results, a sample of their values (`subsample`).
        curves: Title -> losses (steps,).
    """

    backend: str
    scenario: Scenario
    versions: dict[str, str]
    machine: str
    digest: str
    observations: Observations
    curves: dict[str, np.ndarray]


@functools.cache
def recording_images() -> Dataset:
    """Return the images of all recordings, which are synthetic: the same bits on every machine."""
    return synthetic(num_images=4096, split="train", num_classes=100, seed=0)


def subsample(observations: Observations) -> Observations:
    """Return at most `MAX_ELEMENTS` evenly spaced elements of each tensor, and all logits."""
    return {
        key: value if key.name == "logits" or value.size <= MAX_ELEMENTS else _spaced(value)
        for key, value in observations.items()
    }


def _spaced(value: np.ndarray) -> np.ndarray:
    return value.ravel()[np.linspace(0, value.size - 1, MAX_ELEMENTS).astype(int)]


def record(backend: Backend, scenario: Scenario, inputs: Inputs, path: str | Path) -> Recording:
    """Run a scenario in Julia and write the results to a file.

    Args:
        backend: The Julia backend.
        scenario: What to run.
        inputs: The state and the batches of the scenario, with the oracle's activation masks.
        path: The file to write.

    Returns:
        The recording that was written.

    Raises:
        BackendUnavailable: `backend` is not the Julia backend.
    """
    if backend.name != "julia":
        raise BackendUnavailable(
            f"only the Julia backend can be recorded. Received: {backend.name}"
        )
    model = backend.build(scenario.config, dtype=scenario.dtype)
    observations = subsample(observe(model, inputs))
    curves = {}
    for title in RECORDED_CURVES if scenario.dtype == "float64" else ():
        train = CURVE_RECIPES[title]
        images = resized(recording_images(), scenario.image_size)
        batches = Batches(images, train, scenario.config, scenario.dtype)
        curves[title] = free_losses(model, inputs.state, batches, CURVE_STEPS)
    recording = Recording(
        backend=backend.name,
        scenario=scenario,
        versions=backend.versions(),
        machine=f"{platform.system()} {platform.machine()}",
        digest=inputs.digest(),
        observations=observations,
        curves=curves,
    )
    _write(path, recording)
    return recording


def _write(path: str | Path, recording: Recording) -> None:
    tensors = {str(key): np.asarray(value) for key, value in recording.observations.items()}
    tensors |= {f"curve/{title}": losses for title, losses in recording.curves.items()}
    values = {
        "format": FORMAT,
        "backend": recording.backend,
        "scenario": dataclasses.asdict(recording.scenario),
        "versions": recording.versions,
        "machine": recording.machine,
        "digest": recording.digest,
        "order": [str(key) for key in recording.observations],
    }
    metadata = {name: json.dumps(value, sort_keys=True) for name, value in values.items()}
    metadata[keys.DIGEST] = safetensors_file.digest(tensors)
    safetensors_file.write(path, tensors, metadata)


def read_recording(path: str | Path) -> Recording:
    """Read a recording from a file.

    Args:
        path: A file that `record` wrote.

    Returns:
        The recording.

    Raises:
        WeightsError: The file is not a recording, is incomplete, or was damaged after writing.
    """
    tensors, metadata = safetensors_file.read(path)
    expected = metadata.pop(keys.DIGEST, None)
    if expected is not None and safetensors_file.digest(tensors) != expected:
        raise WeightsError(
            f"{path}: the SHA-256 of its tensors must be that of the metadata, {expected}. "
            f"Received: {safetensors_file.digest(tensors)}. Copy the file from its source again"
        )
    try:
        values = {name: json.loads(text) for name, text in metadata.items()}
        if values["format"] != FORMAT:
            raise WeightsError(f"{path}: format must be {FORMAT}. Received: {values['format']}")
        fields = values["scenario"]
        fields["config"] = MobileNetConfig.from_dict(fields["config"])
        return Recording(
            backend=values["backend"],
            scenario=Scenario(**fields),
            versions=values["versions"],
            machine=values["machine"],
            digest=values["digest"],
            observations={Key.parse(text): tensors[text] for text in values["order"]},
            curves={
                name.removeprefix("curve/"): tensor
                for name, tensor in tensors.items()
                if name.startswith("curve/")
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path} is not a recording of this package: {error!r}") from None


def check_inputs(recording: Recording, inputs: Inputs) -> None:
    """Check that a recording was made with these inputs.

    Args:
        recording: The recording.
        inputs: The state and the batches of its scenario, with the oracle's activation masks.

    Raises:
        WeightsError: The digest of the inputs is another one.
    """
    received = inputs.digest()
    if received != recording.digest:
        raise WeightsError(
            f"the recording of {recording.scenario.name} was made with inputs of digest "
            f"{recording.digest[:16]}; a replay requires the same. Received: {received[:16]}"
        )


def recordings_folder() -> Path:
    """Return the folder of the recordings: beside this file in a wheel, parity/ in a checkout."""
    here = Path(__file__).parent
    return here / "goldens" if (here / "goldens").is_dir() else here.parents[1] / "parity/goldens"


def read_recordings(folder: Path | None = None) -> list[Recording]:
    """Read all recordings of a folder, in the order of their file names.

    Args:
        folder: The folder; the package's own recordings if None.

    Returns:
        The recordings.

    Raises:
        BackendUnavailable: The folder has none.
        WeightsError: A file is not a recording.
    """
    folder = folder or recordings_folder()
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise BackendUnavailable(
            f"{folder} has no recordings: run `pymobilenet record` where Julia is installed"
        )
    return [read_recording(path) for path in paths]
