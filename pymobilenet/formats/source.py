"""A file as named tensors, with what it says of its net: the first step of reading a model."""

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
from pymobilenet.formats.registry import CONTAINERS, function
from pymobilenet.formats.state_dicts import choose_state_dict, trainer_arguments

ORDERED = ("pt", "onnx", "npz")
"""Containers whose tensors come in the order of the layers."""


@dataclass(frozen=True)
class Source:
    """What a file holds.

    Attributes:
        path, container: The file, and what it is.
        tensors: Arrays by name, in the order of the file.
        moments: This project's optimizer moments, by canonical name.
        metadata: Text by name.
        origin: What lies beside the weights.
        is_ordered: Whether the order of the tensors is that of the layers.
        name_map: The names -> canonical names, where the container shows them.
        strides: Of the convolutions, where the file says them.
        notes: Sentences for the report.
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
        path: The file.
        container: What it is; by its content, if None.
        which: The state dict to take, where a checkpoint has several.
        known_origin: What the registry says of pretrained weights; else it is read beside the file.

    Raises:
        WeightsError: No container that is read, or not a whole one.
    """
    given, path = path, weights_in(path) or path
    kind = "safetensors" if path.name == INDEX else container or detect_container(path)
    origin = known_origin or origin_beside(path)
    notes: list[str] = []
    name_map: dict[str, str] | None = None
    strides: tuple[int, ...] = ()
    if kind == "pt":
        content = function(CONTAINERS[kind].module, "load_object")(path)
        chosen = choose_state_dict(content, which, str(path))
        to_arrays = function(CONTAINERS[kind].module, "to_arrays")
        tensors, metadata = to_arrays(chosen.tensors, path), _own_metadata(content, str(path))
        notes += [chosen.note] if chosen.note else []
        origin = origin if origin.said_in else origin_of_arguments(trainer_arguments(content))
    elif kind == "keras":
        file = function("pymobilenet.formats.keras_file", "read_keras")(path)
        tensors, metadata, strides = file.tensors, file.metadata | file.images, file.strides
        if file.settings and known_origin is None:
            origin = Origin(file.settings, "model_config")
    elif kind == "onnx":
        graph = function("pymobilenet.formats.onnx_import", "read_graph")(path)
        tensors, metadata, name_map = graph.tensors, graph.metadata, graph.name_map
        origin = Origin(graph.settings, "graph")
        notes += graph.notes
    elif path.name == INDEX:
        tensors, metadata = read_parts(path)
    else:
        read = function(CONTAINERS[kind].module, CONTAINERS[kind].reader)
        tensors, metadata = read(path)
    moments = {name: tensors.pop(name) for name in list(tensors) if name.startswith("optimizer.")}
    tensors, computed = resolve_parametrizations(tensors)
    tensors, widened = _widen(tensors)
    return Source(
        path=given,
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


def _own_metadata(content: Any, source: str) -> dict[str, str]:
    """What `torch_file.write` put into the attributes of a state dict."""
    attributes = getattr(content, "_metadata", None)
    own = attributes.get("pymobilenet", {}) if isinstance(attributes, Mapping) else {}
    if not isinstance(own, Mapping) or not all(type(t) is str for kv in own.items() for t in kv):
        raise WeightsError(f"{source}: its metadata must be text by name")
    return dict(own)


def _widen(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """float16 as float32, which holds all its values."""
    half = {name for name, tensor in tensors.items() if tensor.dtype == np.float16}
    count = sum(tensors[name].ndim > 0 for name in half)
    wide = {n: t.astype(np.float32) if n in half else t for n, t in tensors.items()}
    return wide, (f"{count} tensors were float16 and are float32",) if half else ()
