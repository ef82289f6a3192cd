"""Reading of Keras files: .h5, .weights.h5 and .keras.

An array is named ``<layer>/<variable>``, and ``<model>/<layer>/<variable>`` in a nested model. The
description of a whole model (``model_config`` in .h5, ``config.json`` in .keras) is JSON from which
Keras builds a program; here it is only searched for strides, padding, epsilon, activation, input
size and rescaling. See `pymobilenet.formats.keras_h5` for the layouts of HDF5 files.
Sources: keras 3.15, saving/saving_lib.py, legacy/saving/legacy_h5_format.py.
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
"""The most bytes of the weights in a .keras archive, unpacked."""

_CONFIG_STARTS = re.compile(r'\{"(?:module|class_name)": "')
"""The start of Keras' description of an object, in Keras 3 and 2."""

_MOST_OBJECTS = 1000
"""The most objects that are searched for a description of a model."""


SOFTMAX = (
    "the file's last layer is a softmax; this model returns the logits before it "
    "(--set softmax=true for probabilities)"
)


@dataclass
class KerasFile:
    """The content of a Keras file.

    Attributes:
        tensors: Name -> array with Keras' axes, see `pymobilenet.formats.keras_layout`.
        metadata: Text by name.
        settings: Fields of `MobileNetConfig` that the model's description states.
        notes: Notes for the report.
        strides: The strides of the convolutions in order; empty without a description.
        images: The metadata of images that a Rescaling layer of the model scales.
    """

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    strides: tuple[int, ...] = ()
    images: dict[str, str] = field(default_factory=dict)


def read_keras(path: Path) -> KerasFile:
    """Read a Keras file.

    Args:
        path: A .h5, .weights.h5 or .keras file; the suffix does not matter.

    Returns:
        The content of the file.

    Raises:
        WeightsError: The file is damaged or not a Keras file, or has content that is not supported.
            The message names the file, the object and the rule.
        BackendUnavailable: h5py is not installed.
    """
    if zipfile.is_zipfile(path):
        return _read_archive(path)
    return hdf5.read_file(path, _read_hdf5)


def _read_archive(path: Path) -> KerasFile:
    """Read a .keras archive, which holds the weights as an HDF5 file."""
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
            content = hdf5.read_file(unpacked, _read_hdf5)
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, RuntimeError) as error:
        raise WeightsError(f"{path}: a damaged Keras archive: {error}") from None
    except WeightsError as error:
        raise WeightsError(str(error).replace(str(unpacked), f"{path}: model.weights.h5")) from None
    return _with_description(content, config, str(path))


def _read_hdf5(file: Any, size: int) -> KerasFile:
    """Read the open HDF5 file, which has `size` bytes."""
    metadata = keras_h5.read_metadata(file)
    if "layer_names" in file.attrs:
        tensors = _named_by_layer(file, size)
    elif "model_weights" in file:
        tensors = _named_by_layer(hdf5.follow(file, "model_weights"), size)
    elif "layers" in file:
        tensors = _named_by_number(hdf5.follow(file, "layers"), size)
    else:
        raise WeightsError(
            f"{file.filename} must be a Keras file, with an attribute layer_names or a "
            f"group model_weights or layers. Received: an HDF5 file with {sorted(file)[:5]}"
        )
    keras_file = KerasFile(tensors, metadata)
    if "model_config" in file.attrs and Path(file.filename).is_file():
        return _with_description(keras_file, Path(file.filename).read_bytes(), file.filename)
    return keras_file


def _named_by_layer(root: Any, size: int) -> dict[str, np.ndarray]:
    """Name each array by the names of its groups.

    ``conv1/conv1/kernel:0`` is named conv1/kernel, and ``mobilenet/conv1/kernel:0`` of a nested
    model mobilenet/conv1/kernel.
    """
    arrays = dict(hdf5.arrays(root, size))
    parents: dict[str, set[str]] = {}
    for path in arrays:
        parents.setdefault(path[0], set()).add(path[-2] if len(path) > 1 else "")
    tensors: dict[str, np.ndarray] = {}
    for path, array in arrays.items():
        variable = path[-1].partition(":")[0].replace("depthwise_kernel", "kernel")
        is_nested = len(parents[path[0]]) > 1
        layer = keras_h5.present_name(path[-2] if is_nested else path[0])
        name = f"{path[0]}/{layer}/{variable}" if is_nested else f"{layer}/{variable}"
        _add(tensors, name, array, hdf5.location(root, *path))
    return tensors


def _named_by_number(root: Any, size: int) -> dict[str, np.ndarray]:
    """Name each array by the number of its layer.

    ``conv2d/vars/0`` is conv1/kernel in MobileNet and Conv1/kernel in MobileNetV2: the net that
    fits the file better is used, and a path that it lacks becomes the name. A nested model is
    ``functional/layers/conv2d/vars/0``.
    """
    arrays = {"/".join(path): array for path, array in hdf5.arrays(root, size)}
    models = Counter(path.rpartition("layers/")[0] for path in arrays)
    tensors: dict[str, np.ndarray] = {}
    for model in models:
        start = f"{model}layers/" if model else ""
        model_arrays = {
            path[len(start) :]: array
            for path, array in arrays.items()
            if path.rpartition("layers/")[0] == model
        }
        table = min(_tables(), key=lambda table: len(table.keys() ^ model_arrays.keys()))
        for path, array in model_arrays.items():
            _add(tensors, model + table.get(path, path), array, f"{root.name}/{start}{path}")
    return tensors


def _tables() -> list[dict[str, str]]:
    """For each net, Keras 3's path of a variable -> ``<layer>/<variable>``."""
    return [
        keras_h5.numbered_paths(layout.rename(MobileNetConfig(layout.families[0])).values())
        for layout in LAYOUTS
    ]


def _add(tensors: dict[str, np.ndarray], name: str, array: np.ndarray, path: str) -> None:
    if name in tensors:
        raise WeightsError(f"{path} is the second {name!r} of the file")
    tensors[name] = array


def _with_description(keras_file: KerasFile, content: bytes, source: str) -> KerasFile:
    """Add the settings that the model's description, a part of `content`, states."""
    config = _find_config(content)
    if config is None:
        return keras_file
    rows = list(_layers(config, depth=0))
    convolutions = [row for row in rows if row[0] in ("Conv2D", "DepthwiseConv2D")]
    trunk = [row for row in convolutions if row[1].get("name") not in ("conv_preds",)]
    norms = [row[1] for row in rows if row[0] == "BatchNormalization"]
    epsilons = {float(norm.get("epsilon", 1e-3)) for norm in norms}
    if not trunk or not epsilons:
        return keras_file
    if len(epsilons) > 1:
        raise WeightsError(f"{source}: its norms have different epsilon: {sorted(epsilons)}")
    keras_file.strides = tuple(_first(row[1].get("strides", 1)) for row in trunk)
    settings = {
        "stem_stride": keras_file.strides[0],
        "norm_eps": epsilons.pop(),
        "padding": _padding(rows, source),
        **_activation(rows, source),
        **_resolution(rows),
    }
    keras_file.settings = {name: value for name, value in settings.items() if value is not None}
    keras_file.images = _rescaling(rows)
    if rows and rows[-1][1].get("activation") == "softmax":
        keras_file.notes = (SOFTMAX,)
    return keras_file


def _find_config(content: bytes) -> dict[str, Any] | None:
    """Return the first JSON object in `content` that describes a model: one with layers.

    An HDF5 file has others, which describe the optimizer and how the model is compiled.
    """
    text, offset = content.decode("latin-1"), 0  # a character for each byte; the JSON is ASCII
    for _ in range(_MOST_OBJECTS):
        start = _CONFIG_STARTS.search(text, offset)
        if start is None:
            return None
        offset = start.end()
        try:
            value, end = json.JSONDecoder().raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        config = value.get("config") if isinstance(value, dict) else None
        if isinstance(config, dict) and isinstance(config.get("layers"), list):
            return value  # type: ignore[no-any-return]
        offset = end
    return None


def _layers(model: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (class, config) of each layer, those of nested models included."""
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
    """Return the padding of the convolutions of stride 2; None if there is none."""
    kinds = set()
    zeros: Any = None
    for kind, config in rows:
        if kind == "ZeroPadding2D":
            zeros = config.get("padding")
        elif kind in ("Conv2D", "DepthwiseConv2D"):
            if _first(config.get("strides", 1)) == 2:
                kinds.add("same" if config.get("padding") == "same" else json.dumps(zeros))
            zeros = None
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
    """Return the setting of the activation, if there is one."""
    kinds = set()
    for kind, config in rows:
        if kind == "ReLU":
            limit = config.get("max_value")
            kinds.add("relu" if limit is None else "relu6" if limit == 6 else f"relu to {limit}")
        elif kind == "Activation" and config.get("activation") not in ("softmax", "linear"):
            kinds.add(str(config.get("activation")))
    if kinds - {"relu", "relu6"} or len(kinds) > 1:
        raise WeightsError(
            f"{source}: its activations must all be relu, or all relu6. Received: {sorted(kinds)}"
        )
    return {"activation": kinds.pop()} if kinds else {}


def _resolution(rows: list[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the setting of the resolution, if the input has a size."""
    for kind, config in rows:
        shape = config.get("batch_shape") or config.get("batch_input_shape")
        if kind == "InputLayer" and isinstance(shape, list) and len(shape) == 4:
            side = shape[1]
            return {"resolution": side} if isinstance(side, int) and side >= 32 else {}
    return {}


def _rescaling(rows: list[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Return the mean and deviation that a Rescaling layer equals, if there is one."""
    for kind, config in rows:
        scale, offset = config.get("scale"), config.get("offset", 0)
        if kind == "Rescaling" and all(isinstance(v, (int, float)) for v in (scale, offset)):
            assert isinstance(scale, (int, float))
            factor = 255 * scale
            return scaled_by([-offset / factor] * 3, [1 / factor] * 3)
    return {}


def _first(value: Any) -> int:
    return int(value[0]) if isinstance(value, (list, tuple)) else int(value)
