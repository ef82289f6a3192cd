"""Files of Flux.jl: JLD2 in and out, BSON in, both through MobileNets.jl."""

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
    """Canonical tensors and metadata of a ``.jld2`` or ``.bson`` file, by MobileNets.jl.

    It may hold what `MobileNets.save` writes, or the `Flux.state` of a stock chain.
    """
    with path.open("rb") as opened:
        one = backend_with_jld2() if opened.read(4) == b"HDF5" else running_backend()
    with translate_julia_errors():
        file = one.julia.read_weights(str(path))
        state = {
            name: np.array(view, order="C")
            for name, view in named_views(one.main.collect(file.state))
        }
        metadata = {str(name): str(file.metadata[name]) for name in file.metadata}
        config = str(one.julia.to_json(file.config))
    return state, {**metadata, keys.CONFIG: config, keys.FORMAT_VERSION: FORMAT_VERSION}


def write(
    path: Path, config: MobileNetConfig, state: Mapping[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Write a ``.jld2`` file for users of stock Flux; see `MobileNets.save`."""
    one = backend_with_jld2()
    tensors = one.new_dict()
    kept = {name: np.ascontiguousarray(tensor) for name, tensor in state.items()}
    with translate_julia_errors():
        for name, tensor in kept.items():
            tensors[name] = one.wrap(tensor)
        texts = one.main.Dict[one.main.String, one.main.String]()
        for name, text in metadata.items():
            texts[name] = text
        own = one.julia.from_json(one.julia.MobileNetConfig, config.to_json())
        one.julia.write_weights(str(path), own, tensors, metadata=texts)
