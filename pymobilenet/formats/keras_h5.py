"""Names and metadata in Keras' HDF5 files, and writing of weights files.

Keras stores the same weights in three structures, which differ in the content of the root:

- the attribute ``layer_names``: weights alone, ``<layer>/<layer>/<variable>:0``, as in the files
  that `keras.applications` downloads. Keras 2 and 3 load them;
- the group ``model_weights``: a whole model in one ``.h5``, with the former structure inside. The
  optimizer is not read;
- the group ``layers``: ``save_weights("x.weights.h5")`` of Keras 3,
  ``layers/<class>_<number>/vars/<index>``, where the layers of a class are numbered in the order of
  the model. Keras assigns arrays by these numbers; the names of the layers follow from them.

In this package an array is named ``<layer>/<variable>``, as in Keras 3: ``conv1/kernel``. Its axes
are those of the file. Sources: keras 3.15, saving/saving_lib.py, legacy/saving.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.errors import WeightsError
from pymobilenet.files import atomic_write
from pymobilenet.formats import hdf5
from pymobilenet.strict_json import check_texts, parse_object

PREPROCESSING = "keras"
"""The preprocessing of images for Keras' models; see `pymobilenet.data.preprocessing`."""

VARIABLES = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
"""A layer's variables in Keras' order, by how many it has: convolution, classifier, norm."""

_KERAS_2 = "2.1.4"  # the version that the files of keras.applications state
_OWN_ATTRIBUTE = "pymobilenet"  # attributes of the root with the metadata: JSON, split and numbered
_OLD_BLOCK = re.compile(r"(mobl|bn)(\d+)_conv(?:_\d+)?(?:_bn)?_(expand|depthwise|project)")


def write(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a weights file for ``model.load_weights(path)``, atomically.

    Args:
        path: The file to write. If the name ends in ``.weights.h5``, the file has the structure of
            Keras 3, otherwise that of Keras 2, which Keras 2 and 3 load. Keras decides by the same
            rule when it loads a file.
        tensors: ``<layer>/<variable>`` -> float32 or float64 array with Keras' axes, in the order
            of the model's layers: Keras assigns arrays by position unless ``by_name`` is true.
        metadata: Text by name.

    Raises:
        WeightsError: A dtype is not float32 or float64, or the variables of a layer are not those
            of a Keras layer.
        BackendUnavailable: h5py is not installed.
    """
    path = Path(path)
    is_keras_3 = path.name.lower().endswith(".weights.h5")
    image = weights_image(path, tensors, metadata or {}, is_keras_3)
    with atomic_write(path) as out:
        out.write(image)


def weights_image(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    is_keras_3: bool = True,
) -> bytes:
    """Return the bytes of a weights file.

    Args:
        path: For messages.
        tensors: As in `write`.
        metadata: Text by name.
        is_keras_3: Whether in Keras 3's arrangement, or that of the official files.

    Raises:
        WeightsError: As `write`.
    """
    layers = _by_layer(path, tensors)
    image = io.BytesIO()
    with hdf5.h5py_module().File(image, "w") as file:
        (_write_keras_3 if is_keras_3 else _write_keras_2)(file, layers)
        for key, part in _metadata_attributes(metadata).items():
            file.attrs[key] = part
    return image.getvalue()


def present_name(layer: str) -> str:
    """Return the present name of a Keras layer.

    MobileNetV2's blocks and classifier had other names in 2018, of which there were two forms
    (keras pull request 10047; JonathanCMitchell/mobilenet_v2_keras, mobilenetv2.py), and files of
    that year are still in use.

    Args:
        layer: A name in a file.

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
    kind, index, role = old.groups()
    block = "expanded_conv" if index == "0" else f"block_{index}"
    return f"{block}_{role}" + ("_BN" if kind == "bn" else "")


def numbered_paths(names: Iterable[str]) -> dict[str, str]:
    """Return the path of each variable in the ``layers`` group of Keras 3.

    Args:
        names: ``<layer>/<variable>`` of all variables, layers in the order of the model.

    Returns:
        ``<class>_<number>/vars/<index>`` -> ``<layer>/<variable>``.
    """
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
    """Return the class name by which Keras numbers a layer in its files (`to_snake_case`)."""
    if "bn" in layer.lower().split("_"):
        return "batch_normalization"
    if layer.startswith("conv_dw_") or layer.endswith("_depthwise"):
        return "depthwise_conv2d"
    return "dense" if layer == "predictions" else "conv2d"


def read_metadata(file: Any) -> dict[str, str]:
    """Return the metadata of an open Keras file.

    Args:
        file: The `h5py.File`.

    Returns:
        ``preprocessing``, ``keras_version`` and ``backend`` if the file states them, and the texts
        that `write` was passed.

    Raises:
        WeightsError: The attributes with these texts are not a JSON object of strings.
    """
    metadata = {keys.PREPROCESSING: PREPROCESSING}
    for key in (keys.KERAS_BACKEND, keys.KERAS_VERSION):
        value = hdf5.text(file, key)
        metadata |= {} if value is None else {key: value}
    pieces: list[str] = []
    while (piece := hdf5.text(file, f"{_OWN_ATTRIBUTE}{len(pieces)}")) is not None:
        pieces.append(piece)
    name = f"attributes {_OWN_ATTRIBUTE}0, ..."
    try:
        texts = parse_object("".join(pieces) or "{}")
    except ValueError as error:
        raise WeightsError(f"{file.filename}: {name}: {error}") from None
    try:
        return metadata | check_texts(texts, name)
    except ValueError as error:
        raise WeightsError(f"{file.filename}: {error}") from None


def _metadata_attributes(metadata: Mapping[str, str]) -> dict[str, np.bytes_]:
    """Return metadata as attributes of limited length, split as Keras splits its own."""
    content = json.dumps(dict(metadata), sort_keys=True).encode("ascii")
    starts = range(0, len(content) if metadata else 0, hdf5.MOST_TEXT)
    return {
        f"{_OWN_ATTRIBUTE}{index}": np.bytes_(content[start : start + hdf5.MOST_TEXT])
        for index, start in enumerate(starts)
    }


def _by_layer(path: Path, tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return layer -> variable -> array: layers as they come, variables in Keras' order."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        layer, _, variable = name.partition("/")
        if tensor.dtype not in (np.float32, np.float64):
            raise WeightsError(
                f"{path}: {name} must be float32 or float64. Received: {tensor.dtype}"
            )
        layers.setdefault(layer, {})[variable] = tensor
    for layer, variables in layers.items():
        order = VARIABLES.get(len(variables), ())
        if set(variables) != set(order):
            raise WeightsError(
                f"{path}: {layer} must have the variables of a Keras layer, "
                f"{', '.join(map(str, VARIABLES.values()))}. Received: {sorted(variables)}"
            )
        layers[layer] = {variable: variables[variable] for variable in order}
    return layers


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
    for path, name in numbered_paths(tensors).items():
        file.create_dataset(f"layers/{path}", data=tensors[name])
