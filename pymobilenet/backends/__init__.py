"""The backends, selected by name and imported on first use."""

from __future__ import annotations

import importlib
from typing import Any

from pymobilenet.backends.base import Backend, Model
from pymobilenet.backends.batch import activation_masks
from pymobilenet.errors import BackendUnavailable, ConfigError

__all__ = [
    "BACKENDS",
    "Backend",
    "Model",
    "activation_masks",
    "available_backends",
    "backend",
    "why_unavailable",
]

BACKENDS = ("numpy", "torch", "julia")

_loaded: dict[tuple[Any, ...], Backend] = {}


def backend(name: str, **options: Any) -> Backend:
    """Return a backend by name.

    There is no current backend: several can be used side by side in one process. The Julia backend
    starts Julia on its first use.

    Args:
        name: "torch", "julia" or "numpy". ``julia@PROJECT`` and ``julia@PROJECT@EXECUTABLE`` are
            "julia" with the options ``isolated``, ``project`` and ``executable``.
        options: Of "julia" only. ``isolated=True`` runs Julia in a process of its own: a crash of
            Julia raises `BackendCrashed` and this process goes on. With it, ``executable`` and
            ``project`` choose another Julia, ``threads`` the number of its threads, and ``timeout``
            is the number of seconds after which a call is given up. See docs/julia-backend.md.

    Returns:
        The backend; the same object on every call with the same arguments.

    Raises:
        ConfigError: No backend has this name, or it does not have these options.
        BackendUnavailable: The framework is not installed or does not load. The message says how
            to install it.

    Examples:
        >>> backend("numpy").name
        'numpy'
    """
    kind, *places = str(name).split("@", 2)
    if places and kind == "julia":
        options |= {"isolated": True} | dict(zip(("project", "executable"), places, strict=False))
    elif name not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}. Received: {name!r}")
    if options and kind != "julia":
        raise ConfigError(f"the {name} backend has no options. Received: {', '.join(options)}")
    key = (kind, *sorted((option, str(value)) for option, value in options.items()))
    if key not in _loaded:
        _loaded[key] = _module(kind).load_backend(**options)
    return _loaded[key]


def available_backends() -> dict[str, str]:
    """Return each backend's name and status, without starting any of them.

    Returns:
        Name -> "available ...", or "unavailable: " and the reason; for a Julia that was never
        started "not started yet ..." or "not installed ...".

    Examples:
        >>> sorted(available_backends())
        ['julia', 'numpy', 'torch']
    """
    return {name: _status(name) for name in BACKENDS}


def why_unavailable(name: str, **options: Any) -> str | None:
    """Load a backend, which starts Julia, and return why that fails, or None if it does not.

    Args:
        name: See `backend`.
        options: See `backend`.
    """
    try:
        backend(name, **options)
    except BackendUnavailable as error:
        return str(error)
    return None


def _status(name: str) -> str:
    try:
        return _module(name).status()
    except BackendUnavailable as error:
        return f"unavailable: {error}"


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"pymobilenet.backends.{name}")
    except Exception as error:  # a broken framework raises anything when it is imported
        reason = str(error) or type(error).__name__
        raise BackendUnavailable(
            f"the {name} backend needs a package that does not import: {reason}. "
            "Install pymobilenet again, or that package"
        ) from error
