"""The tables of containers, layouts and formats."""

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
    """A container and the module that reads and writes it, which is imported on first use.

    Attributes:
        module: The name of the module.
        reader: Its function from a path to name -> array and metadata; "" if `source.read_source`
            has its own code for this container.
        writer: Its function of a path, name -> array and metadata; "" if there is none.
    """

    module: str
    reader: str = "read"
    writer: str = "write"


ModelWriter = Callable[[Path, MobileNetConfig, Mapping[str, np.ndarray], Mapping[str, str]], None]
"""A function of path, config, canonical state and metadata that writes a model."""


class Format(NamedTuple):
    """A format to export to: a container with layouts, or a writer of models.

    Attributes:
        container: A key of `CONTAINERS`; "" with a `writer`.
        layouts: The layouts, at most one for each family.
        writer: A function that writes the model.
    """

    container: str = ""
    layouts: tuple[Layout, ...] = ()
    writer: ModelWriter | None = None


def import_function(module: str, name: str) -> Any:
    """Import and return a function of a module that may require a framework.

    Args:
        module: The name of the module.
        name: The name of the function.

    Returns:
        The function.

    Raises:
        BackendUnavailable: The module does not import, or lacks the function.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, OSError, AttributeError) as error:  # OSError: a shared library is missing
        raise BackendUnavailable(f"this format requires {module}.{name}: {error}") from error


def _write_onnx(
    path: Path,
    config: MobileNetConfig,
    state: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    texts = {key: text for key, text in metadata.items() if key not in _NOT_IN_ONNX}
    write = import_function("pymobilenet.formats.onnx_export", "write_onnx")
    write(path, config, state, metadata=texts)


_NOT_IN_ONNX = (keys.FORMAT_VERSION, keys.PROBE)
"""Metadata of the exchange file alone: its version, and the logits for checking a backend."""


def _write_flux(
    path: Path,
    config: MobileNetConfig,
    state: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    import_function(_FLUX, "write")(path, config, state, metadata)


_FLUX = "pymobilenet.formats.flux_file"

CONTAINERS = {
    "safetensors": Container("pymobilenet.formats.safetensors_file"),
    "npz": Container("pymobilenet.formats.npz"),
    "pt": Container("pymobilenet.formats.torch_file", reader=""),
    "keras": Container("pymobilenet.formats.keras_h5", reader=""),
    "onnx": Container("pymobilenet.formats.onnx_import", reader="", writer=""),
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
"""The formats that `save_as` and `convert` write, by name."""

SUFFIXES = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".pt": "pt",
    ".pth": "pt",
    ".h5": "keras",
    ".keras": "keras",
    ".jld2": "jld2",
    ".onnx": "onnx",
}
"""The format of a new file by its suffix, if none is named. The suffix of a file that is read does
not matter."""


def layouts_named(name: str | None) -> tuple[Layout, ...]:
    """Return the layouts of a name, or those to try if the user names none.

    Args:
        name: The name; None for all layouts whose tensor names no other layout shares.

    Raises:
        ConfigError: No layout has this name.
    """
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
    """Check that a file can be written, before anything is computed.

    Args:
        path: The file to write.
        is_folder: Whether `path` may be a folder.

    Raises:
        ConfigError: The folder of `path` does not exist, or `path` is a folder.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} must exist")
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
