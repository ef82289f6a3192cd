"""The backends, found by name and imported only when asked for."""

from __future__ import annotations

import importlib
from typing import Any

from pymobilenet.backends.base import Backend, Model
from pymobilenet.backends.batch import activation_masks
from pymobilenet.errors import BackendUnavailable, ConfigError

__all__ = ["BACKENDS", "Backend", "Model", "activation_masks", "available_backends", "backend"]

BACKENDS = ("numpy", "torch", "julia")

_loaded: dict[str, Backend] = {}


def backend(name: str) -> Backend:
    """Return a backend by name.

    There is no current backend: several can be used side by side in one process. The Julia backend
    starts Julia on its first use.

    Args:
        name: "torch", "julia" or "numpy".

    Returns:
        The backend; the same object on every call.

    Raises:
        ConfigError: No backend has this name.
        BackendUnavailable: The framework is not installed or does not load. The message says how
            to install it.

    Example:
        >>> backend("numpy").name
        'numpy'
    """
    if name not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}. Received: {name!r}")
    if name not in _loaded:
        _loaded[name] = _module(name).load_backend()
    return _loaded[name]


def available_backends() -> dict[str, str]:
    """Return each backend's name and status, without starting any of them.

    Returns:
        Name -> "available ..." or "unavailable: " and the reason.

    Example:
        >>> sorted(available_backends())
        ['julia', 'numpy', 'torch']
    """
    return {name: _status(name) for name in BACKENDS}


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
