"""The exchange file: a model's config and state in a canonical safetensors file.

Python and Julia write the same bytes for the same model; see `pymobilenet.formats.safetensors_file`
for the order. Its metadata (see `pymobilenet.metadata_keys`) has ``format_version``, ``config``,
``versions`` and the texts passed by the writer, each JSON with sorted keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.formats import safetensors_file
from pymobilenet.strict_json import parse_object
from pymobilenet.weights.state import State, check_state, slots_of

FORMAT_VERSION = "1"


@dataclass(frozen=True)
class WeightsFile:
    """The content of an exchange file.

    Attributes:
        config: The config of the model.
        state: Canonical name -> array, float32 or float64, with optimizer slots if it has any.
        versions: Library -> version, of the program that wrote the file.
        metadata: The other metadata, text by name.
    """

    config: MobileNetConfig
    state: State
    versions: dict[str, str]
    metadata: dict[str, str]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the weights: float32 or float64."""
        return self.state["classifier.weight"].dtype


def write_weights(
    path: str | Path,
    config: MobileNetConfig,
    state: Mapping[str, np.ndarray],
    versions: Mapping[str, str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Check a model's state and write it, with its config, atomically.

    Args:
        path: The file to write.
        config: The config of the model.
        state: Canonical name -> array, all float32 or all float64; optimizer slots are optional.
        versions: Library -> version, of the program that writes the file.
        metadata: Further texts by name.

    Raises:
        WeightsError: A tensor is missing, not expected, of another shape or dtype, or not finite.
    """
    dtype = state["classifier.weight"].dtype if "classifier.weight" in state else "float32"
    check_state(config, state, dtype, slots_of(state), source=str(path))
    canonical = {
        keys.FORMAT_VERSION: FORMAT_VERSION,
        keys.CONFIG: config.to_json(),
        keys.VERSIONS: json.dumps(dict(versions), sort_keys=True, separators=(",", ":")),
    }
    safetensors_file.write(path, state, {**(metadata or {}), **canonical})


def read_weights(path: str | Path, mmap: bool = False) -> WeightsFile:
    """Read and check a model's config and state.

    Args:
        path: An exchange file.
        mmap: Return views of the mapped file, see `safetensors_file.read`.

    Returns:
        The content of the file.

    Raises:
        WeightsError: The file is not an exchange file, or a tensor is missing, not expected, of
            another shape or dtype, or not finite. The message names the tensors.
    """
    tensors, metadata = safetensors_file.read(path, mmap)
    if metadata.get(keys.FORMAT_VERSION) != FORMAT_VERSION:
        raise WeightsError(
            f"{path}: metadata format_version must be {FORMAT_VERSION!r}, as pymobilenet writes it."
            f" Received: {metadata.get(keys.FORMAT_VERSION)!r}"
        )
    try:
        config = MobileNetConfig.from_json(metadata.pop(keys.CONFIG, ""))
        versions = parse_object(metadata.pop(keys.VERSIONS, "{}"))
    except ValueError as error:
        raise WeightsError(f"{path}: metadata: {error}") from None
    del metadata[keys.FORMAT_VERSION]
    dtype = np.asarray(tensors.get("classifier.weight", np.float32(0))).dtype
    if dtype not in (np.float32, np.float64):
        raise WeightsError(
            f"{path}: classifier.weight must be float32 or float64. Received: {dtype}"
        )
    check_state(config, tensors, dtype, slots_of(tensors), source=str(path))
    return WeightsFile(config, tensors, versions, metadata)
