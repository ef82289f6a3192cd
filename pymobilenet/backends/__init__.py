"""The backends, found by name and imported only when asked for."""

from __future__ import annotations

import importlib
from typing import Any, overload

from pymobilenet.backends.base import Backend, Model
from pymobilenet.backends.parts import regions
from pymobilenet.errors import BackendUnavailable, ConfigError

__all__ = ["BACKENDS", "Backend", "Model", "backend", "regions"]

BACKENDS = ("numpy", "torch", "julia")

_loaded: dict[str, Backend] = {}


@overload
def backend(name: str) -> Backend: ...
@overload
def backend(name: None = None) -> dict[str, str]: ...


def backend(name: str | None = None) -> Backend | dict[str, str]:
    """The backend called `name`; without a name, every backend and whether it can be had.

    There is no current backend: two can be used side by side in one process. The Julia backend
    starts Julia on its first use.

    >>> backend("numpy").name
    'numpy'

    Raises:
        ConfigError: There is no backend of that name.
        BackendUnavailable: Its framework is not there or does not load; the message says how to get
            it.
    """
    if name is None:
        return {name: _status(name) for name in BACKENDS}
    if name not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}. Received: {name!r}")
    if name not in _loaded:
        _loaded[name] = _module(name).load_backend()
    return _loaded[name]


def _status(name: str) -> str:
    try:
        return _module(name).status()
    except BackendUnavailable as error:
        return f"unavailable: {error}"


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"pymobilenet.backends.{name}")
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        raise BackendUnavailable(
            f"the {name} backend needs a package that does not import: {error}. "
            "Install pymobilenet again, or that package"
        ) from error
