"""Flux files, through MobileNets.jl: JLD2 is read and written, BSON is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.backends.julia.interop import named_views, translate_julia_errors
from pymobilenet.backends.julia.runtime import backend_with_jld2, running_backend
from pymobilenet.config import MobileNetConfig
from pymobilenet.formats.exchange import FORMAT_VERSION
from pymobilenet.weights import State


def read(path: Path) -> tuple[State, dict[str, str]]:
    """Read the tensors and the metadata of a ``.jld2`` or ``.bson`` file.

    Args:
        path: A file that `MobileNets.save` wrote, or that holds the `Flux.state` of a chain of
            Flux layers.

    Returns:
        Canonical name -> array, float32 or float64, in C order; and the metadata, text by name,
        with config and format_version.

    Raises:
        WeightsError: The file is damaged, or holds something else.
        BackendUnavailable: Julia or JLD2.jl is not available.
    """
    with path.open("rb") as opened:
        backend = backend_with_jld2() if opened.read(4) == b"HDF5" else running_backend()
    with translate_julia_errors():
        file = backend.julia.read_weights(str(path))
        state = {
            name: np.array(view, order="C")
            for name, view in named_views(backend.main.collect(file.state))
        }
        metadata = {str(name): str(file.metadata[name]) for name in file.metadata}
        config = str(backend.julia.to_json(file.config))
    return state, {**metadata, keys.CONFIG: config, keys.FORMAT_VERSION: FORMAT_VERSION}


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
        BackendUnavailable: Julia or JLD2.jl is not available.
    """
    backend = backend_with_jld2()
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
