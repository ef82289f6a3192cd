"""Flux files, through MobileNets.jl: JLD2 is read and written, BSON is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.backends.julia.interop import named_views, translate_julia_errors
from pymobilenet.backends.julia.runtime import backend_with
from pymobilenet.config import MobileNetConfig
from pymobilenet.formats.exchange import FORMAT_VERSION
from pymobilenet.weights import State


@dataclass(frozen=True)
class FluxFile:
    """What a file of Flux or Lux holds.

    Attributes:
        tensors: Canonical name -> array.
        metadata: Text by name; with the config in a file of this project's own.
        settings: Fields of `MobileNetConfig` that another file's state shows.
    """

    tensors: State
    metadata: dict[str, str]
    settings: dict[str, Any]


def read(path: Path) -> FluxFile:
    """Read a ``.jld2`` or ``.bson`` file with MobileNets.jl.

    It may hold what `MobileNets.save` writes, the `Flux.state` of a stock chain under any key or in
    a dict, or Lux's ``ps`` and ``st``.

    Args:
        path: The file.

    Returns:
        The state, the metadata, and the fields of the config that the file states.

    Raises:
        WeightsError: No state of a model, or a whole model.
        BackendUnavailable: Julia is not available.
    """
    with path.open("rb") as opened:
        packages = ("JLD2",) if opened.read(4) == b"HDF5" else ()
        backend = backend_with(*packages)
    with translate_julia_errors():
        file = backend.julia.read_weights(str(path))
        state = {
            name: np.array(view, order="C")
            for name, view in named_views(backend.main.collect(file.state))
        }
        metadata = {str(name): str(file.metadata[name]) for name in file.metadata}
        config = str(backend.julia.to_json(file.config))
        assumed = {str(name) for name in file.assumed}
    if not assumed:
        own = {keys.CONFIG: config, keys.FORMAT_VERSION: FORMAT_VERSION}
        return FluxFile(state, {**metadata, **own}, {})
    fields = MobileNetConfig.from_json(config).to_dict()
    return FluxFile(state, metadata, {n: v for n, v in fields.items() if n not in assumed})


def write(
    path: Path, config: MobileNetConfig, state: Mapping[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Write a ``.jld2`` file, which `Flux.loadmodel!` reads without MobileNets.jl.

    See `MobileNets.save` for its content.

    Args:
        path: The file to write.
        config: The config of the model.
        state: Canonical name -> array, float32 or float64.
        metadata: Text by name.

    Raises:
        BackendUnavailable: Julia, Flux.jl or JLD2.jl is not available.
    """
    backend = backend_with("Flux", "JLD2")
    julia_tensors = backend.new_dict()
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in state.items()}
    with translate_julia_errors():
        for name, array in arrays.items():  # `arrays` owns the memory until the file is written
            julia_tensors[name] = backend.wrap(array)
        texts = backend.main.Dict[backend.main.String, backend.main.String]()
        for name, text in metadata.items():
            texts[name] = text
        julia_config = backend.julia.from_json(backend.julia.MobileNetConfig, config.to_json())
        backend.julia.write_weights(str(path), julia_config, julia_tensors, metadata=texts)
