"""Keras' HDF5 files: named arrays, in and out.

Keras has put the same weights into three arrangements, told apart by what the root holds:

- the attribute ``layer_names``: weights alone, ``<layer>/<layer>/<variable>:0``, as in the files
  that `keras.applications` downloads and as every Keras loads them;
- the group ``model_weights``: a whole model in one ``.h5``, with the former arrangement inside. Its
  description of the model (JSON, which can name code to run) and its optimizer are not read;
- the group ``layers``: ``save_weights("x.weights.h5")`` of Keras 3,
  ``layers/<class>_<number>/vars/<index>``, where layers of a class are numbered in the order of the
  model. Keras goes by these numbers; the names of the layers follow from them.

Here an array is ``<layer>/<variable>`` in all three, in the spelling of Keras 3: ``conv1/kernel``.
Axes stay as they are in the file. (keras 3.15: saving/saving_lib.py, legacy/saving.) What else such
a file may hold is refused, see `pymobilenet.formats.hdf5`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.files import atomic_write
from pymobilenet.formats import hdf5
from pymobilenet.formats.keras_layout import LAYOUTS
from pymobilenet.strict_json import check_texts, parse_object

PREPROCESSING = "keras"
"""What the images of a Keras model went through; see `pymobilenet.data.preprocessing`."""

VARIABLES = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
"""A layer's variables in Keras' order, by how many it has: convolution, classifier, norm."""

_KERAS_2 = "2.1.4"  # the arrangement's own version, that of the official files
_OURS = "pymobilenet"  # the root's attributes with the metadata: JSON, split and numbered
_OLD_BLOCK = re.compile(r"(mobl|bn)(\d+)_conv(?:_\d+)?(?:_bn)?_(expand|depthwise|project)")

Place = tuple[str, ...]  # the names on the way to a dataset


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a Keras file by ``<layer>/<variable>``, and its metadata.

    Metadata: ``keras_version`` and ``backend`` where the file says them, ``preprocessing``, and
    what `write` was given.

    Raises:
        WeightsError: Not a whole HDF5 file, none of Keras' arrangements, or something in it that is
            not read; the message names file, dataset and rule.
    """
    return hdf5.read_file(Path(path), lambda file, size: (_tensors(file, size), _metadata(file)))


def write(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a weights file for ``model.load_weights(path)``, atomically.

    A name that ends in ``.weights.h5`` gets Keras 3's arrangement, any other that of the official
    files, which Keras 2 and 3 load: Keras decides by the name too. It loads layers by position (if
    it is not asked for ``by_name``), so `tensors` must come in the order of the model's layers.

    Args:
        tensors: ``<layer>/<variable>`` -> float32 or float64 array with Keras' axes.

    Raises:
        WeightsError: A name or a dtype that such a file cannot hold.
    """
    path = Path(path)
    layers = _by_layer(path, tensors)
    image = io.BytesIO()
    with hdf5.h5py_module().File(image, "w") as file:
        if path.name.lower().endswith(".weights.h5"):
            _write_keras_3(file, layers)
        else:
            _write_keras_2(file, layers)
        for key, part in _parts(metadata or {}).items():
            file.attrs[key] = part
    with atomic_write(path) as out:
        out.write(image.getbuffer())


def present_name(layer: str) -> str:
    """What Keras calls a layer today.

    MobileNetV2's blocks and classifier had other names in 2018, of which there were two forms
    (keras pull request 10047; JonathanCMitchell/mobilenet_v2_keras, mobilenetv2.py), and files of
    that year are still in use.

    >>> present_name("mobl1_conv_1_expand"), present_name("bn1_conv_1_bn_expand")
    ('block_1_expand', 'block_1_expand_BN')
    >>> present_name("bn0_conv_depthwise"), present_name("Logits"), present_name("conv_pw_1")
    ('expanded_conv_depthwise_BN', 'predictions', 'conv_pw_1')
    """
    if layer == "Logits":
        return "predictions"
    old = _OLD_BLOCK.fullmatch(layer)
    if not old:
        return layer
    kind, index, part = old.groups()
    block = "expanded_conv" if index == "0" else f"block_{index}"
    return f"{block}_{part}" + ("_BN" if kind == "bn" else "")


def _tensors(file: Any, size: int) -> dict[str, np.ndarray]:
    root, name_all = _arrangement(file)
    found = dict(hdf5.arrays(root, size))
    tensors: dict[str, np.ndarray] = {}
    for (parts, array), name in zip(found.items(), name_all(list(found)), strict=True):
        if name in tensors:
            raise WeightsError(f"{hdf5.place(root, *parts)} is the second {name!r} of the file")
        tensors[name] = array
    return tensors


def _arrangement(file: Any) -> tuple[Any, Callable[[list[Place]], list[str]]]:
    """The group that holds the layers, and the function that names the datasets in it."""
    if "layer_names" in file.attrs:
        return file, _names_keras_2
    if "model_weights" in file:
        return hdf5.follow(file, "model_weights"), _names_keras_2
    if "layers" in file:
        return hdf5.follow(file, "layers"), _names_keras_3
    raise WeightsError(
        f"{file.filename} must be one of Keras' files, with an attribute layer_names or a group "
        f"model_weights or layers. Received: an HDF5 file with {sorted(file)[:5]}"
    )


def _names_keras_2(places: list[Place]) -> list[str]:
    """``conv1/conv1/kernel:0`` is conv1/kernel; Keras 3 writes it without the ``:0``."""
    return [
        f"{present_name(parts[0])}/"
        + parts[-1].partition(":")[0].replace("depthwise_kernel", "kernel")
        for parts in places
    ]


def _names_keras_3(places: list[Place]) -> list[str]:
    """``conv2d/vars/0`` is conv1/kernel in MobileNet, Conv1/kernel in MobileNetV2.

    Of the two, the net that fits the file better; what is not in it keeps its place as its name.
    """
    given = ["/".join(parts) for parts in places]
    tables = [
        _numbered(layout.rename(MobileNetConfig(layout.families[0])).values()) for layout in LAYOUTS
    ]
    table = min(tables, key=lambda table: len(table.keys() ^ set(given)))
    return [table.get(place, place) for place in given]


def _numbered(names: Iterable[str]) -> dict[str, str]:
    """Keras 3's place of each ``<layer>/<variable>`` -> that name; layers in the model's order."""
    layers: dict[str, list[str]] = {}
    for name in names:
        layer, _, variable = name.partition("/")
        layers.setdefault(layer, []).append(variable)
    counts: dict[str, int] = {}
    table = {}
    for layer, variables in layers.items():
        kind = _keras_class(layer)
        count = counts[kind] = counts.get(kind, -1) + 1
        group = f"{kind}_{count}" if count else kind
        for index, variable in enumerate(VARIABLES[len(variables)]):
            table[f"{group}/vars/{index}"] = f"{layer}/{variable}"
    return table


def _keras_class(layer: str) -> str:
    """The class that Keras counts a layer by in its files (`to_snake_case` of its name)."""
    if "bn" in layer.lower().split("_"):
        return "batch_normalization"
    if layer.startswith("conv_dw_") or layer.endswith("_depthwise"):
        return "depthwise_conv2d"
    return "dense" if layer == "predictions" else "conv2d"


def _metadata(file: Any) -> dict[str, str]:
    metadata = {keys.PREPROCESSING: PREPROCESSING}
    for key in (keys.KERAS_BACKEND, keys.KERAS_VERSION):
        value = hdf5.text(file, key)
        metadata |= {} if value is None else {key: value}
    parts: list[str] = []
    while (part := hdf5.text(file, f"{_OURS}{len(parts)}")) is not None:
        parts.append(part)
    name = f"attributes {_OURS}0, ..."
    try:
        own = parse_object("".join(parts) or "{}")
    except ValueError as error:
        raise WeightsError(f"{file.filename}: {name}: {error}") from None
    try:
        return metadata | check_texts(own, name)
    except ValueError as error:
        raise WeightsError(f"{file.filename}: {error}") from None


def _parts(metadata: Mapping[str, str]) -> dict[str, np.bytes_]:
    """Metadata as attributes of fixed length, as many as it takes, as Keras splits its own."""
    content = json.dumps(dict(metadata), sort_keys=True).encode("ascii")
    starts = range(0, len(content) if metadata else 0, hdf5.MOST_TEXT)
    return {
        f"{_OURS}{index}": np.bytes_(content[start : start + hdf5.MOST_TEXT])
        for index, start in enumerate(starts)
    }


def _by_layer(path: Path, tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Layer -> variable -> array, in Keras' order; layers in the order in which they come."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        layer, _, variable = name.partition("/")
        if tensor.dtype not in (np.float32, np.float64):
            raise WeightsError(
                f"{path}: {name} must be float32 or float64. Received: {tensor.dtype}"
            )
        found.setdefault(layer, {})[variable] = tensor
    for layer, variables in found.items():
        order = VARIABLES.get(len(variables), ())
        if set(variables) != set(order):
            raise WeightsError(
                f"{path}: {layer} must have the variables of one of Keras' layers, "
                f"{', '.join(map(str, VARIABLES.values()))}. Received: {sorted(variables)}"
            )
        found[layer] = {variable: variables[variable] for variable in order}
    return found


def _write_keras_2(file: Any, layers: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    file.attrs["layer_names"] = np.array([layer.encode() for layer in layers])
    file.attrs[keys.KERAS_BACKEND] = np.bytes_(b"tensorflow")
    file.attrs[keys.KERAS_VERSION] = np.bytes_(_KERAS_2.encode())
    for layer, variables in layers.items():
        prefix = "depthwise_" if _keras_class(layer) == "depthwise_conv2d" else ""
        named = {f"{layer}/{prefix}{name}:0": array for name, array in variables.items()}
        group = file.create_group(layer)
        group.attrs["weight_names"] = np.array([name.encode() for name in named])
        for name, array in named.items():
            group.create_dataset(name, data=array)


def _write_keras_3(file: Any, layers: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    tensors = {f"{layer}/{name}": layers[layer][name] for layer in layers for name in layers[layer]}
    for place, name in _numbered(tensors).items():
        file.create_dataset(f"layers/{place}", data=tensors[name])
