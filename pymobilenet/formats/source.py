"""The first step of an import: the tensors of a file, with the settings that it states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.errors import WeightsError
from pymobilenet.formats.detect import detect_container
from pymobilenet.formats.heads import resolve_parametrizations
from pymobilenet.formats.huggingface import INDEX, read_parts, weights_in
from pymobilenet.formats.origin import Origin, origin_beside, origin_of_arguments
from pymobilenet.formats.registry import CONTAINERS, import_function
from pymobilenet.formats.state_dicts import choose_state_dict, trainer_arguments

ORDERED = ("pt", "onnx", "npz")
"""Containers whose tensors are in the order of the layers."""

FLUX = ("jld2", "bson")
"""Containers that MobileNets.jl reads; it gives the canonical names."""


@dataclass(frozen=True)
class Source:
    """The content of a file.

    Attributes:
        path: The file, or the folder that it is in, as the user named it.
        container: A key of `registry.CONTAINERS`.
        tensors: Name -> array, in the order of the file.
        moments: Canonical name -> array of the optimizer slots, which only this package writes.
        metadata: Text by name.
        origin: The settings that are stated beside the weights.
        is_ordered: Whether the order of the tensors is that of the layers.
        name_map: Name in the file -> canonical name, if the container determines them.
        strides: The strides of the convolutions, if the file states them.
        notes: Notes for the report.
    """

    path: Path
    container: str
    tensors: dict[str, np.ndarray]
    moments: dict[str, np.ndarray]
    metadata: dict[str, str]
    origin: Origin
    is_ordered: bool
    name_map: dict[str, str] | None
    strides: tuple[int, ...]
    notes: tuple[str, ...]


def read_source(
    path: Path, container: str | None, which: str | None, known_origin: Origin | None = None
) -> Source:
    """Read a file in any container.

    Args:
        path: The file, or a folder with one.
        container: The container; None to detect it.
        which: The name of the state dict to read, if a checkpoint has several.
        known_origin: The settings of pretrained weights; None to read them beside the weights.

    Returns:
        The content of the file.

    Raises:
        WeightsError: The container is not supported, or the file is damaged.
        BackendUnavailable: The container requires a framework that is not installed.
    """
    user_path, path = path, weights_in(path) or path
    kind = "safetensors" if path.name == INDEX else container or detect_container(path)
    origin = known_origin or origin_beside(path)
    notes: list[str] = []
    name_map: dict[str, str] | None = None
    strides: tuple[int, ...] = ()
    if kind == "pt":
        content = import_function(CONTAINERS[kind].module, "load_object")(path)
        chosen = choose_state_dict(content, which, str(path))
        to_arrays = import_function(CONTAINERS[kind].module, "to_arrays")
        tensors, metadata = to_arrays(chosen.tensors, path), _torch_metadata(content, str(path))
        notes += [chosen.note] if chosen.note else []
        origin = origin if origin.file_part else origin_of_arguments(trainer_arguments(content))
    elif kind == "keras":
        file = import_function("pymobilenet.formats.keras_file", "read_keras")(path)
        tensors, metadata, strides = file.tensors, file.metadata | file.images, file.strides
        notes += file.notes
        if file.settings and known_origin is None:
            origin = Origin(file.settings, "model_config")
    elif kind == "onnx":
        graph = import_function("pymobilenet.formats.onnx_import", "read_graph")(path)
        tensors, metadata, name_map = graph.tensors, graph.metadata, graph.name_map
        origin = Origin(graph.settings, "graph")
        notes += graph.notes
    elif kind in FLUX:
        flux = import_function(CONTAINERS[kind].module, CONTAINERS[kind].reader)(path)
        tensors, metadata = flux.tensors, flux.metadata
        origin = Origin(flux.settings, "Flux.state") if flux.settings else origin
    elif path.name == INDEX:
        tensors, metadata = read_parts(path)
    else:
        read = import_function(CONTAINERS[kind].module, CONTAINERS[kind].reader)
        tensors, metadata = read(path)
    moments = {name: tensors.pop(name) for name in list(tensors) if name.startswith("optimizer.")}
    tensors, computed = resolve_parametrizations(tensors)
    tensors, widened = _widen(tensors)
    return Source(
        path=user_path,
        container=kind,
        tensors=tensors,
        moments=moments,
        metadata=metadata,
        origin=origin,
        is_ordered=kind in ORDERED,
        name_map=name_map,
        strides=strides,
        notes=(*notes, *computed, *widened),
    )


def _torch_metadata(content: Any, source: str) -> dict[str, str]:
    """Return the metadata that `torch_file.write` stored in an attribute of the state dict."""
    attributes = getattr(content, "_metadata", None)
    texts = attributes.get("pymobilenet", {}) if isinstance(attributes, Mapping) else {}
    if not isinstance(texts, Mapping) or not all(
        type(text) is str for pair in texts.items() for text in pair
    ):
        raise WeightsError(f"{source}: its metadata must be text by name")
    return dict(texts)


def _widen(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Convert float16 to float32, which represents all its values."""
    halves = {name for name, tensor in tensors.items() if tensor.dtype == np.float16}
    count = sum(tensors[name].ndim > 0 for name in halves)
    wide = {
        name: tensor.astype(np.float32) if name in halves else tensor
        for name, tensor in tensors.items()
    }
    return wide, (f"{count} tensors were converted from float16 to float32",) if halves else ()
