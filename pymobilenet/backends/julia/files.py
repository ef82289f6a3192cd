"""Julia's own files, and what else is asked of the running Julia beside models."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.julia import JuliaBackend
from pymobilenet.backends.julia.crossing import pairs, translated
from pymobilenet.backends.julia.model import JuliaModel
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import BackendUnavailable
from pymobilenet.weights import State
from pymobilenet.weights.safetensors import FORMAT_VERSION


def read_julia_file(path: Path) -> tuple[State, dict[str, str]]:
    """Canonical tensors and metadata of a ``.jld2`` or ``.bson`` file, by MobileNets.jl.

    It may hold what `MobileNets.save` writes, or the `Flux.state` of a stock chain.
    """
    with path.open("rb") as opened:
        one = _with_jld2() if opened.read(4) == b"HDF5" else _running()
    with translated():
        file = one.julia.read_weights(str(path))
        state = {
            name: np.array(view, order="C") for name, view in pairs(one.main.collect(file.state))
        }
        metadata = {str(name): str(file.metadata[name]) for name in file.metadata}
        config = str(one.julia.to_json(file.config))
    return state, {**metadata, "config": config, "format_version": FORMAT_VERSION}


def write_julia_file(
    path: Path, config: MobileNetConfig, state: Mapping[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Write a ``.jld2`` file for users of stock Flux; see `MobileNets.save`."""
    one = _with_jld2()
    tensors = one.new_dict()
    kept = {name: np.ascontiguousarray(tensor) for name, tensor in state.items()}
    with translated():
        for name, tensor in kept.items():
            tensors[name] = one.wrap(tensor)
        texts = one.main.Dict[one.main.String, one.main.String]()
        for name, text in metadata.items():
            texts[name] = text
        own = one.julia.from_json(one.julia.MobileNetConfig, config.to_json())
        one.julia.write_weights(str(path), own, tensors, metadata=texts)


def bench_peers(
    function: str, model: Model, images: np.ndarray, labels: np.ndarray
) -> Callable[[], Any]:
    """A job of julia/bench/peers.jl, which one call without arguments runs."""
    one = _running()
    assert isinstance(model, JuliaModel)
    with translated():
        run = getattr(_peers(one), function)(model.model, one.wrap(images), one.wrap(labels))
    kept = images, labels
    return lambda: (run(), kept)


def has_metalhead() -> bool:
    """Whether the Julia project holds Metalhead.jl."""
    with translated():
        return bool(_peers(_running()).has_metalhead())


def allocated() -> int:
    """Bytes that Julia has allocated since it was started."""
    with translated():
        return int(_running().main.Base.gc_bytes())


@functools.cache
def _peers(one: JuliaBackend) -> Any:
    return one.main.include(f"{one.main.pkgdir(one.julia)}/bench/peers.jl")


def blas() -> dict[str, str]:
    """What multiplies Julia's matrices: library, core whose kernels it chose, threads."""
    one = _running()
    with translated():
        found = one.julia.blas_report()
        names = [str(name) for name in one.main.propertynames(found)]
        return {name: str(getattr(found, name)) for name in names}


def sysimage() -> str | None:
    """The system image that Julia was started with; None if it is Julia's own."""
    import juliacall

    _running()
    return juliacall.CONFIG["opt_sysimage"]


def _running() -> JuliaBackend:
    """The backend, with its Julia started."""
    from pymobilenet.backends import backend

    one = backend("julia")
    assert isinstance(one, JuliaBackend)
    return one


def _with_jld2() -> JuliaBackend:
    """The backend, with the package loaded that MobileNets.jl needs for ``.jld2`` files."""
    import juliacall

    one = _running()
    try:
        one.main.seval("import JLD2")
    except juliacall.JuliaError as error:
        raise BackendUnavailable(
            f"JLD2.jl could not be loaded: {error}. Add it to the project "
            f"{juliacall.CONFIG['project']}: `juliapkg.add` in Python, or `Pkg.add` in Julia"
        ) from error
    return one
