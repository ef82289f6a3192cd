"""The formats by name: which module reads and writes a container, and which layouts there are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import BackendUnavailable, ConfigError
from pymobilenet.formats.keras_layout import MOBILENET, MOBILENET_V2
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.project_layouts import LAYOUTS as PROJECTS
from pymobilenet.formats.torch_layouts import CANONICAL, CHENYAOFO, TIMM, TORCHVISION


class Container(NamedTuple):
    """A file format: the module that has it, imported when a file of it is opened."""

    module: str
    reader: str = "read"
    writer: str = "write"


ModelWriter = Callable[[Path, MobileNetConfig, Mapping[str, np.ndarray], Mapping[str, str]], None]
"""Writes config and canonical state in a form of its own: path, config, state, metadata."""


class Format(NamedTuple):
    """Something to convert to: a container of named arrays with a layout, or a writer of models."""

    container: str = ""
    layouts: tuple[Layout, ...] = ()
    writer: ModelWriter | None = None


def function(module: str, name: str) -> Any:
    """A format's function, from a module that may need a framework.

    Raises:
        BackendUnavailable: The framework does not import, or its part of the format is missing.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, OSError, AttributeError) as error:  # OSError: a shared library is missing
        raise BackendUnavailable(f"this format needs {module}.{name}: {error}") from error


def _write_onnx(
    path: Path,
    config: MobileNetConfig,
    state: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    texts = {key: text for key, text in metadata.items() if key not in _NOT_IN_ONNX}
    write = function("pymobilenet.formats.onnx_export", "write_onnx")
    write(path, config, state, metadata=texts)


_NOT_IN_ONNX = (keys.FORMAT_VERSION, keys.PROBE)
"""What holds of the exchange file alone: its version, and logits to hold a backend against."""


def _write_flux(
    path: Path,
    config: MobileNetConfig,
    state: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    function(_FLUX, "write")(path, config, state, metadata)


_FLUX = "pymobilenet.formats.flux_file"

CONTAINERS = {
    "safetensors": Container("pymobilenet.formats.safetensors_file"),
    "npz": Container("pymobilenet.formats.npz"),
    "pt": Container("pymobilenet.formats.torch_file"),
    "keras": Container("pymobilenet.formats.keras_h5"),
    "onnx": Container("pymobilenet.formats.onnx_import", "read_graph", ""),
    "jld2": Container(_FLUX, writer=""),
    "bson": Container(_FLUX, writer=""),
}

LAYOUTS = (CANONICAL, TORCHVISION, TIMM, MOBILENET, MOBILENET_V2, *PROJECTS, CHENYAOFO)

FORMATS = {
    "safetensors": Format("safetensors", (CANONICAL,)),
    "npz": Format("npz", (CANONICAL,)),
    "pt": Format("pt", (CANONICAL,)),
    "torchvision": Format("pt", (TORCHVISION,)),
    "timm": Format("pt", (TIMM,)),
    "keras": Format("keras", (MOBILENET, MOBILENET_V2)),
    **{
        name: Format("pt", tuple(layout for layout in PROJECTS if layout.name == name))
        for name in dict.fromkeys(layout.name for layout in PROJECTS)
    },
    "chenyaofo": Format("pt", (CHENYAOFO,)),
    "jld2": Format(writer=_write_flux),
    "onnx": Format(writer=_write_onnx),
}
"""What `save_as` and `convert` write."""

SUFFIXES = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".pt": "pt",
    ".pth": "pt",
    ".h5": "keras",
    ".jld2": "jld2",
    ".onnx": "onnx",
}
"""The format a new file goes through where none is named. Files are never read by their suffix."""


def layouts_named(name: str | None) -> tuple[Layout, ...]:
    """The layouts of that name, or all but those whose names are another's too."""
    layouts = tuple(
        layout
        for layout in LAYOUTS
        if layout.name == name or (name is None and not layout.shared_names)
    )
    if not layouts:
        names = ", ".join(dict.fromkeys(layout.name for layout in LAYOUTS))
        raise ConfigError(f"layout must be one of {names}. Received: {name!r}")
    return layouts


def check_destination(path: Path, is_folder: bool = False) -> None:
    """Refuse to write where no file can be, before the work that would be lost.

    Raises:
        ConfigError: The folder is not there, or `path` is one itself, unless `is_folder`.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}; make it first")
    if path.is_dir() and not is_folder:
        raise ConfigError(f"{path} is a folder; name the file to write, as {path / 'model'}")


def format_for(path: Path, name: str | None, argument: str) -> tuple[str, Format]:
    """Return the name of a format and the format: `name`, or that of the suffix (any case).

    Args:
        path: The file to write.
        name: A key of `FORMATS`, or None.
        argument: The name of the caller's argument, for the error message.

    Raises:
        ConfigError: An unknown format, or no format for the suffix.
    """
    suffix = path.suffix.lower()
    if name is None and suffix not in SUFFIXES:
        raise ConfigError(
            f"{path}: {argument} must name the format, one of {', '.join(FORMATS)}, or the file "
            f"must have one of the suffixes {', '.join(SUFFIXES)}"
        )
    name = SUFFIXES[suffix] if name is None else name
    if name not in FORMATS:
        raise ConfigError(f"{argument} must be one of {', '.join(FORMATS)}. Received: {name!r}")
    return name, FORMATS[name]
