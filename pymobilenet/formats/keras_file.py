"""Keras files of any kind as named arrays and settings: .h5, .weights.h5 and .keras.

A layer's arrays are ``<layer>/<variable>``, in a nested model ``<model>/<layer>/<variable>``. What
a whole model says of itself (``model_config`` in .h5, ``config.json`` in .keras) is JSON that Keras
builds a program from: here it is only searched for strides, padding, epsilon and the like.
keras 3.15: saving/saving_lib.py, legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.formats import hdf5, keras_h5
from pymobilenet.formats.keras_layout import LAYOUTS
from pymobilenet.formats.unit_names import scaled_by

MOST_UNPACKED = 2**31
"""Bytes of the weights within a .keras archive."""

_CONFIG_STARTS = re.compile(r'\{"(?:module|class_name)": "')
"""How Keras' description of an object begins, in keras 3 and 2."""

_MOST_OBJECTS = 1000
"""Objects that are looked at before a file counts as one without a description."""


@dataclass
class KerasFile:
    """What a Keras file holds.

    Attributes:
        tensors: Arrays by name, with Keras' axes.
        metadata: Text by name.
        settings: Fields of `MobileNetConfig` that the model's own description says.
        strides: Of its convolutions, in order; empty where it has no description.
        images: How images are scaled, where the model does it itself.
    """

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    strides: tuple[int, ...] = ()
    images: dict[str, str] = field(default_factory=dict)


def read_keras(path: Path) -> KerasFile:
    """Read a file of Keras'.

    Raises:
        WeightsError: Not a whole file of Keras', or something in it that is not read.
    """
    if zipfile.is_zipfile(path):
        return _read_archive(path)
    return hdf5.read_file(path, _read_open)


def _read_archive(path: Path) -> KerasFile:
    """A .keras archive: the weights are an HDF5 file in it."""
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            member = archive.getinfo("model.weights.h5")
            if member.file_size > MOST_UNPACKED or member.file_size > 1000 * path.stat().st_size:
                raise WeightsError(
                    f"{path}: model.weights.h5 in it must be below {MOST_UNPACKED} bytes and not "
                    f"much larger than the archive. Received: {member.file_size}"
                )
            config = archive.read("config.json") if "config.json" in archive.namelist() else b""
            unpacked = Path(folder) / "model.weights.h5"
            with archive.open(member) as source:
                unpacked.write_bytes(source.read())
            found = hdf5.read_file(unpacked, _read_open)
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, RuntimeError) as error:
        raise WeightsError(f"{path}: no whole Keras archive: {error}") from None
    except WeightsError as error:
        raise WeightsError(str(error).replace(str(unpacked), f"{path}: model.weights.h5")) from None
    return _described(found, config, str(path))


def _read_open(file: Any, size: int) -> KerasFile:
    metadata = keras_h5._metadata(file)
    if "layer_names" in file.attrs:
        tensors = _named_by_layer(file, size)
    elif "model_weights" in file:
        tensors = _named_by_layer(hdf5.follow(file, "model_weights"), size)
    elif "layers" in file:
        tensors = _named_by_number(hdf5.follow(file, "layers"), size)
    else:
        raise WeightsError(
            f"{file.filename} must be one of Keras' files, with an attribute layer_names or a "
            f"group model_weights or layers. Received: an HDF5 file with {sorted(file)[:5]}"
        )
    found = KerasFile(tensors, metadata)
    if "model_config" in file.attrs and Path(file.filename).is_file():
        return _described(found, Path(file.filename).read_bytes(), file.filename)
    return found


def _named_by_layer(root: Any, size: int) -> dict[str, np.ndarray]:
    """``conv1/conv1/kernel:0``, or in a nested model ``mobilenet/conv1/kernel:0``."""
    places = dict(hdf5.arrays(root, size))
    inner: dict[str, set[str]] = {}
    for parts in places:
        inner.setdefault(parts[0], set()).add(parts[-2] if len(parts) > 1 else "")
    tensors: dict[str, np.ndarray] = {}
    for parts, array in places.items():
        variable = parts[-1].partition(":")[0].replace("depthwise_kernel", "kernel")
        is_nested = len(inner[parts[0]]) > 1
        layer = keras_h5.present_name(parts[-2] if is_nested else parts[0])
        name = f"{parts[0]}/{layer}/{variable}" if is_nested else f"{layer}/{variable}"
        _add(tensors, name, array, hdf5.place(root, *parts))
    return tensors


def _named_by_number(root: Any, size: int) -> dict[str, np.ndarray]:
    """``conv2d/vars/0`` is conv1/kernel in MobileNet, Conv1/kernel in MobileNetV2.

    Of the two, the net that fits the file better; what is not in it keeps its place as its name.
    A nested model is ``functional/layers/conv2d/vars/0``.
    """
    places = {"/".join(parts): array for parts, array in hdf5.arrays(root, size)}
    models = Counter(place.rpartition("layers/")[0] for place in places)
    tensors: dict[str, np.ndarray] = {}
    for model in models:
        start = f"{model}layers/" if model else ""
        own = {
            place[len(start) :]: array
            for place, array in places.items()
            if place.rpartition("layers/")[0] == model
        }
        table = min(_tables(), key=lambda table: len(table.keys() ^ own.keys()))
        for place, array in own.items():
            _add(tensors, model + table.get(place, place), array, f"{root.name}/{start}{place}")
    return tensors


def _tables() -> list[dict[str, str]]:
    """For each net, Keras 3's place of a variable -> ``<layer>/<variable>``."""
    return [
        keras_h5._numbered(layout.rename(MobileNetConfig(layout.families[0])).values())
        for layout in LAYOUTS
    ]


def _add(tensors: dict[str, np.ndarray], name: str, array: np.ndarray, place: str) -> None:
    if name in tensors:
        raise WeightsError(f"{place} is the second {name!r} of the file")
    tensors[name] = array


def _described(found: KerasFile, content: bytes, source: str) -> KerasFile:
    """The same with what the model's description, somewhere in `content`, says."""
    config = _find_config(content)
    if config is None:
        return found
    rows = list(_layers(config, depth=0))
    convolutions = [row for row in rows if row[0] in ("Conv2D", "DepthwiseConv2D")]
    trunk = [row for row in convolutions if row[1].get("name") not in ("conv_preds",)]
    norms = [row[1] for row in rows if row[0] == "BatchNormalization"]
    epsilons = {float(norm.get("epsilon", 1e-3)) for norm in norms}
    if not trunk or not epsilons:
        return found
    if len(epsilons) > 1:
        raise WeightsError(f"{source}: its norms have different epsilon: {sorted(epsilons)}")
    found.strides = tuple(_first(row[1].get("strides", 1)) for row in trunk)
    found.settings = {
        "stem_stride": found.strides[0],
        "norm_eps": epsilons.pop(),
        "padding": _padding(rows, source),
        **_activation(rows, source),
        **_resolution(rows),
    }
    found.settings = {name: v for name, v in found.settings.items() if v is not None}
    found.images = _rescaling(rows)
    return found


def _find_config(content: bytes) -> dict[str, Any] | None:
    """The first JSON object in `content` that describes a model: one that has layers.

    In an HDF5 file it lies among others: what the optimizer is, and how the model is compiled.
    """
    text, place = content.decode("latin-1"), 0  # a character for each byte; the JSON is ASCII
    for _ in range(_MOST_OBJECTS):
        start = _CONFIG_STARTS.search(text, place)
        if start is None:
            return None
        place = start.end()
        try:
            value, end = json.JSONDecoder().raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        config = value.get("config") if isinstance(value, dict) else None
        if isinstance(config, dict) and isinstance(config.get("layers"), list):
            return value  # type: ignore[no-any-return]
        place = end
    return None


def _layers(model: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(class, config) of each layer, nested models opened."""
    config = model.get("config")
    if depth > 8 or not isinstance(config, dict):
        return
    inner = config.get("layers")
    if not isinstance(inner, list):
        yield str(model.get("class_name")), config
        return
    for layer in inner:
        if isinstance(layer, dict):
            yield from _layers(layer, depth + 1)


def _padding(rows: list[tuple[str, Mapping[str, Any]]], source: str) -> str | None:
    """How its convolutions of stride 2 are padded; None where none of them shows it."""
    kinds = set()
    before: Any = None
    for kind, config in rows:
        if kind == "ZeroPadding2D":
            before = config.get("padding")
        elif kind in ("Conv2D", "DepthwiseConv2D"):
            if _first(config.get("strides", 1)) == 2:
                kinds.add("same" if config.get("padding") == "same" else json.dumps(before))
            before = None
    known = {
        "same": "keras",
        "[[0, 1], [0, 1]]": "keras",
        "[[1, 1], [1, 1]]": "symmetric",
        "[1, 1]": "symmetric",
        "1": "symmetric",
    }
    names = {known.get(kind) for kind in kinds}
    if None in names or len(names) > 1:
        raise WeightsError(
            f"{source}: its convolutions of stride 2 must all be padded by 1 on each side, or "
            f"below and to the right. Received: {sorted(kinds)}"
        )
    return names.pop() if names else None


def _activation(rows: list[tuple[str, Mapping[str, Any]]], source: str) -> dict[str, Any]:
    kinds = set()
    for kind, config in rows:
        if kind == "ReLU":
            limit = config.get("max_value")
            kinds.add("relu" if limit is None else "relu6" if limit == 6 else f"relu to {limit}")
        elif kind == "Activation" and config.get("activation") != "softmax":
            kinds.add(str(config.get("activation")))
    if kinds - {"relu", "relu6"} or len(kinds) > 1:
        raise WeightsError(
            f"{source}: its activations must all be relu, or all relu6. Received: {sorted(kinds)}"
        )
    return {"activation": kinds.pop()} if kinds else {}


def _resolution(rows: list[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    for kind, config in rows:
        shape = config.get("batch_shape") or config.get("batch_input_shape")
        if kind == "InputLayer" and isinstance(shape, list) and len(shape) == 4:
            side = shape[1]
            return {"resolution": side} if isinstance(side, int) and side >= 32 else {}
    return {}


def _rescaling(rows: list[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """What a Rescaling layer does to pixels, as mean and deviation; nothing without one."""
    for kind, config in rows:
        scale, offset = config.get("scale"), config.get("offset", 0)
        if kind == "Rescaling" and all(isinstance(v, (int, float)) for v in (scale, offset)):
            assert isinstance(scale, (int, float))
            spread = 255 * scale
            return scaled_by([-offset / spread] * 3, [1 / spread] * 3)
    return {}


def _first(value: Any) -> int:
    return int(value[0]) if isinstance(value, (list, tuple)) else int(value)
