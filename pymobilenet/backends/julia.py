"""MobileNets.jl through juliacall: all of the border between the languages is in this file.

Arrays cross as views of the same memory, in both directions. A NumPy array (N, C, H, W) in C order
and a Julia array (W, H, C, N) are the same bytes, and MobileNets.jl keeps every tensor so; nothing
is permuted or copied on the way. Julia objects that Python looks at stay alive as long as Python
holds the view.

Environment variables, read when Julia starts (those not set are chosen here):

- ``PYTHON_JULIACALL_THREADS`` or ``JULIA_NUM_THREADS``: Julia threads. Default ``auto``, one for
  each core.
- ``PYTHON_JULIACALL_HANDLE_SIGNALS``: default ``yes``, because several Julia threads need the
  SIGSEGV of their safepoints; Ctrl-C is given back to Python afterwards.
- ``PYTHON_JULIACALL_EXE`` with ``PYTHON_JULIACALL_PROJECT``: a Julia and a project that holds
  MobileNets and PythonCall; nothing is resolved or downloaded then.
- ``PYTHON_JULIAPKG_*``: see https://github.com/JuliaPy/pyjuliapkg.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.base import Backend, Model
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import BackendUnavailable, JuliaError
from pymobilenet.weights import OPTIMIZER_STEP, State
from pymobilenet.weights.safetensors import FORMAT_VERSION

DOWNLOAD_HOST = "julialang-s3.julialang.org"
CONNECT_SECONDS = 3

HOW_TO_GET_JULIA = (
    "Install Julia 1.10 or later from https://julialang.org/downloads and have `julia` on PATH, "
    "or connect to the internet once: it is then downloaded by itself"
)


class JuliaModel(Model):
    """A MobileNets.jl model behind the protocol; `model` is the Julia object itself."""

    def __init__(self, backend: JuliaBackend, config: MobileNetConfig, dtype: np.dtype) -> None:
        super().__init__(config, dtype)
        self.backend: JuliaBackend = backend
        self._julia = backend.julia
        with _translated():
            own = self._julia.from_json(self._julia.MobileNetConfig, config.to_json())
            self.model = self._julia.build(own, dtype=backend.element_types[dtype.name])
        self.updater: Any = None

    def get_state(self) -> State:
        with _translated():
            if not self.slots:
                pairs = self._julia.get_state(self.model)
            else:
                pairs = self._julia.get_state(self.model, self.updater)
            return {name: np.array(view, order="C") for name, view in _pairs(pairs)}

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        with _translated():
            if OPTIMIZER_STEP in state:
                self._julia.set_state_b(self.model, self.updater, self._dict(state))
            else:
                self._julia.set_state_b(self.model, self._dict(state))

    def _reset_optimizer(self, config: TrainConfig) -> None:
        with _translated():
            own = self._julia.from_json(self._julia.TrainConfig, config.to_json())
            self.updater = self._julia.setup(own, self.model)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        with _translated():
            return _view(self._julia.predict(self.model, self._array(images)))

    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        with _translated():
            pairs = self._julia.activations(
                self.model, self._array(images), train=train, masks=self._masks_to_julia(masks)
            )
            return dict(_pairs(pairs))

    def _loss_and_grads(
        self, images: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        with _translated():
            loss, grads = self._julia.loss_and_grads(
                self.model,
                self._array(images),
                self._array(labels),
                masks=self._masks_to_julia(masks),
            )
            return float(loss), dict(_pairs(grads))

    def _step(
        self, images: np.ndarray, labels: np.ndarray, rate: float, masks: dict[str, np.ndarray]
    ) -> tuple[float, State]:
        with _translated():
            loss, grads = self._julia.train_step_b(
                self.model,
                self.updater,
                self._array(images),
                self._array(labels),
                rate,
                masks=self._masks_to_julia(masks),
            )
            return float(loss), dict(_pairs(grads))

    def _masks_to_julia(self, masks: dict[str, np.ndarray]) -> Any:
        return self._dict(masks) if masks else None

    def _dict(self, arrays: Mapping[str, np.ndarray]) -> Any:
        tensors = self.backend.new_dict()
        for name, array in arrays.items():
            tensors[name] = self._array(array)
        return tensors

    def _array(self, array: np.ndarray) -> Any:
        return self.backend.wrap(array)


class JuliaBackend(Backend):
    """The running Julia; one for each process, since Julia can only be started once."""

    name = "julia"

    def __init__(self) -> None:
        self.main = main = _start()
        _import_packages(main)
        self.julia = main.MobileNets
        self.element_types = {
            "float32": main.Float32,
            "float64": main.Float64,
            "int64": main.Int64,
            "uint8": main.UInt8,
        }

    def versions(self) -> dict[str, str]:
        with _translated():
            found = self.julia.versions()
            return {str(name): str(found[name]) for name in found}

    def threads(self) -> dict[str, int]:
        with _translated():
            return {
                "julia": int(self.main.Threads.nthreads()),
                "blas": int(self.main.LinearAlgebra.BLAS.get_num_threads()),
            }

    def new_dict(self) -> Any:
        """An empty ``Dict{String,Array}``."""
        return self.main.Dict[self.main.String, self.main.Array]()

    def wrap(self, array: np.ndarray) -> Any:
        """A Julia `Array` over the memory of a C-contiguous NumPy array, its axes reversed.

        The NumPy array has to be kept alive while Julia uses it.
        """
        pointer = self.main.Ptr[self.element_types[array.dtype.name]](array.ctypes.data)
        return self.main.unsafe_wrap(self.main.Array, pointer, array.shape[::-1])

    def _new(self, config: MobileNetConfig, dtype: np.dtype, **options: Any) -> JuliaModel:
        return JuliaModel(self, config, dtype, **options)


def read_julia_file(path: Path) -> tuple[State, dict[str, str]]:
    """Canonical tensors and metadata of a ``.jld2`` or ``.bson`` file, by MobileNets.jl.

    It may hold what `MobileNets.save` writes, or the `Flux.state` of a stock chain.
    """
    with path.open("rb") as opened:
        one = _with_jld2() if opened.read(4) == b"HDF5" else _running()
    with _translated():
        file = one.julia.read_weights(str(path))
        state = {
            name: np.array(view, order="C") for name, view in _pairs(one.main.collect(file.state))
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
    with _translated():
        for name, tensor in kept.items():
            tensors[name] = one.wrap(tensor)
        texts = one.main.Dict[one.main.String, one.main.String]()
        for name, text in metadata.items():
            texts[name] = text
        own = one.julia.from_json(one.julia.MobileNetConfig, config.to_json())
        one.julia.write_weights(str(path), own, tensors, metadata=texts)


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


def _view(array: Any) -> np.ndarray:
    """A NumPy view of a Julia array, its axes reversed: C order over the same memory."""
    return np.asarray(array).T


def _pairs(pairs: Any) -> Iterator[tuple[str, np.ndarray]]:
    """(name, view) of each of a Julia vector of ``name => array``."""
    return ((str(name), _view(array)) for name, array in pairs)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn an error of Julia's into a `JuliaError` that keeps its text."""
    import juliacall

    try:
        yield
    except juliacall.JuliaError as error:
        raise JuliaError(f"Julia: {error}") from error


def _start() -> Any:
    """Start Julia and return its Main module, with the settings explained at the top."""
    reason = unavailable()
    if reason is not None:
        raise BackendUnavailable(f"the Julia backend cannot be had: {reason}. {HOW_TO_GET_JULIA}")
    _resolve()
    interrupt = signal.getsignal(signal.SIGINT)
    with _environment_defaults(), warnings.catch_warnings():
        # Tested in both orders in fresh processes; the warning cannot be acted on after the fact.
        warnings.filterwarnings("ignore", message="torch was imported before juliacall")
        try:
            import juliacall
        except Exception as error:
            raise BackendUnavailable(
                f"Julia was found but did not start: {error}. Running `python -m juliapkg resolve "
                "--force` in this environment sets up its packages again"
            ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return juliacall.Main


def _import_packages(main: Any) -> None:
    """Load MobileNets.jl, and with it PythonCall's conversions, precompiled.

    libjulia's own function does it first: `Main.seval` would be compiled for this one call. If it
    fails (it then gives no pointer), `seval` fails too, and says why.
    """
    import juliacall

    statement = "import MobileNets, LinearAlgebra"
    if juliacall.CONFIG["lib"].jl_eval_string(statement.encode()) is not None:
        return
    try:
        main.seval(statement)
    except juliacall.JuliaError as error:
        raise BackendUnavailable(
            f"Julia started, but MobileNets.jl could not be loaded: {error}. The project "
            f"{juliacall.CONFIG['project']} must hold it, and PythonCall"
        ) from error


def _resolve() -> None:
    """Let juliapkg install what is missing, and say so before it takes its minutes."""
    if "PYTHON_JULIACALL_EXE" in os.environ:
        return
    import juliapkg

    with contextlib.redirect_stdout(sys.stderr):
        try:
            if juliapkg.resolve(dry_run=True):
                return
            _say(
                "first use of the Julia backend in this environment: setting up "
                f"{_found() or 'a Julia that is downloaded now'} and compiling MobileNets.jl. "
                "This takes some minutes, once; what is done follows"
            )
            juliapkg.resolve()
        except Exception as error:
            raise BackendUnavailable(
                f"the Julia packages could not be installed: {error}. What Pkg said stands above. "
                "Check the connection, or set PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT "
                "to a Julia and a project that has MobileNets and PythonCall"
            ) from error


@contextlib.contextmanager
def _environment_defaults() -> Iterator[None]:
    """Settings juliacall reads when it is imported; the environment is left as it was."""
    defaults = {"PYTHON_JULIACALL_HANDLE_SIGNALS": "yes"}
    if "JULIA_NUM_THREADS" not in os.environ:
        defaults["PYTHON_JULIACALL_THREADS"] = "auto"
    added = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def unavailable() -> str | None:
    """Why no Julia can be had: none is installed and none can be downloaded. None if one can."""
    if _found() is not None or "juliacall" in sys.modules:
        return None
    if os.environ.get("PYTHON_JULIAPKG_OFFLINE") == "yes":
        return "no Julia is installed, and PYTHON_JULIAPKG_OFFLINE=yes forbids downloading one"
    try:
        socket.create_connection((DOWNLOAD_HOST, 443), CONNECT_SECONDS).close()
    except OSError as error:
        return f"no Julia is installed, and {DOWNLOAD_HOST} cannot be reached ({error})"
    return None


def _found() -> str | None:
    """The Julia that is there already: told by the environment, set up before, or on PATH."""
    from juliapkg.state import STATE

    told = os.environ.get("PYTHON_JULIACALL_EXE") or STATE["override_executable"]
    if told:
        return told
    downloaded = Path(STATE["install"]) / "bin" / "julia"
    return shutil.which("julia") or shutil.which("juliaup") or shutil.which(downloaded)


def _say(sentence: str) -> None:
    print(f"pymobilenet: {sentence}.", file=sys.stderr, flush=True)  # noqa: T201


def status() -> str:
    found = _found()
    if found is not None:
        return f"available ({found})"
    reason = unavailable()
    return (
        f"unavailable: {reason}. {HOW_TO_GET_JULIA}"
        if reason
        else "available after a download, once"
    )


def load_backend() -> JuliaBackend:
    return JuliaBackend()
