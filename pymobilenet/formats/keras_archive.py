"""Keras' .keras archives, out: a functional model with every layer, its padding and its weights.

The archive is a zip of ``metadata.json``, ``config.json`` and ``model.weights.h5``
(keras 3.15, saving/saving_lib.py; models/functional.py, `functional_from_config`). A convolution of
stride 2 comes after a ZeroPadding2D of its own, so that Keras pads exactly as this project does, at
any size: on both sides with ``padding="symmetric"``, below and to the right with ``"keras"``.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.architecture import Layer, feature_channels, layers
from pymobilenet.config import MobileNetConfig
from pymobilenet.files import atomic_write
from pymobilenet.formats.keras_h5 import weights_image
from pymobilenet.formats.keras_layout import NORM, UNIT_NAMES, to_dense
from pymobilenet.weights import State

KERAS_VERSION = "3.8.0"
"""The oldest version that is tested to load these archives."""

_DATE = (1980, 1, 1, 0, 0, 0)  # the zip format's first: equal models give equal bytes
_INPUT, _CLASSIFIER = "images", "predictions"


def write_archive(
    path: Path, config: MobileNetConfig, state: State, metadata: Mapping[str, str]
) -> None:
    """Write a model for ``keras.saving.load_model(path)``, atomically.

    Args:
        path: The new file.
        config: The model's config, of family v1 or v2.
        state: Its canonical state, float32 or float64.
        metadata: Text by name, kept as attributes of the weights file.
    """
    dtype = state["classifier.weight"].dtype.name
    texts = {
        "metadata.json": json.dumps({"keras_version": KERAS_VERSION}).encode(),
        "config.json": json.dumps(describe(config, dtype)).encode(),
        "model.weights.h5": weights_image(path, _tensors(config, state), metadata),
    }
    image = io.BytesIO()
    with zipfile.ZipFile(image, "w") as archive:
        for name, content in texts.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
    with atomic_write(path) as file:
        file.write(image.getbuffer())


def describe(config: MobileNetConfig, dtype: str) -> dict[str, Any]:
    """Return the ``config.json`` of a functional model that computes what `config` does.

    Args:
        config: Of family v1 or v2.
        dtype: float32 or float64.
    """
    graph = _Graph(dtype)
    size = config.resolution
    shape = (size, size, config.in_channels)
    x = graph.add("InputLayer", _INPUT, [], shape, batch_shape=[None, *shape])
    block, entry = "", x
    for unit in layers(config):
        if unit.block != block:
            block, entry = unit.block, x
        x = _add_unit(graph, unit, x, size, config)
        size = unit.output_size(size)
        if unit.residual:
            shape = (size, size, unit.out_channels)
            x = graph.add("Add", f"{block.replace('.', '_')}_add", [[entry, x]], shape)
    features, classes = (feature_channels(config),), (config.num_classes,)
    x = graph.add("GlobalAveragePooling2D", "global_average_pooling2d", [x], features)
    if config.dropout:
        x = graph.add("Dropout", "dropout", [x], features, rate=config.dropout)
    head = {"units": config.num_classes, "activation": "softmax" if config.softmax else "linear"}
    x = graph.add("Dense", _CLASSIFIER, [x], classes, **head)
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": f"mobilenet_{config.family}",
            "trainable": True,
            "layers": graph.layers,
            "input_layers": [_INPUT, 0, 0],
            "output_layers": [x, 0, 0],
        },
        "registered_name": "Functional",
    }


class _Graph:
    """The layers of a functional model, each applied to named others."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.layers: list[dict[str, Any]] = []
        self.shapes: dict[str, list[int | None]] = {}

    def add(
        self, kind: str, name: str, inputs: list[Any], shape: Sequence[int], **config: Any
    ) -> str:
        """Add a layer and return its name.

        Args:
            kind: Its class in ``keras.layers``.
            name: Its name.
            inputs: Names of the layers it is applied to, or a list of names in a list.
            shape: Of its output, without the axis of the images.
            config: The arguments of the class.
        """
        self.shapes[name] = [None, *shape]
        node = {"args": [self._tensors(each) for each in inputs], "kwargs": {}}
        self.layers.append(
            {
                "module": "keras.layers",
                "class_name": kind,
                "config": {"name": name, "dtype": self.dtype, **config},
                "registered_name": None,
                "name": name,
                "inbound_nodes": [node] if inputs else [],
            }
        )
        return name

    def _tensors(self, names: Any) -> Any:
        if isinstance(names, list):
            return [self._tensors(name) for name in names]
        shape = self.shapes[names]
        tensor = {"shape": shape, "dtype": self.dtype, "keras_history": [names, 0, 0]}
        return {"class_name": "__keras_tensor__", "config": tensor}


def _add_unit(graph: _Graph, unit: Layer, x: str, size: int, config: MobileNetConfig) -> str:
    """Add a convolution with its padding, norm and activation, and return the last one's name."""
    convolution, norm = UNIT_NAMES[config.family](unit)
    settings: dict[str, Any] = {
        "kernel_size": [unit.kernel, unit.kernel],
        "strides": [unit.stride, unit.stride],
        "padding": "same",
        "use_bias": False,
    }
    if unit.stride > 1:
        padding, padded = [list(unit.padding)] * 2, size + sum(unit.padding)
        shape = (padded, padded, unit.in_channels)
        x = graph.add("ZeroPadding2D", f"{convolution}_pad", [x], shape, padding=padding)
        settings["padding"] = "valid"
    kind = "DepthwiseConv2D" if unit.groups > 1 else "Conv2D"
    if kind == "Conv2D":
        settings["filters"] = unit.out_channels
    size = unit.output_size(size)
    shape = (size, size, unit.out_channels)
    x = graph.add(kind, convolution, [x], shape, **settings)
    scale = {"epsilon": config.norm_eps, "momentum": 1 - config.norm_momentum}
    x = graph.add("BatchNormalization", norm, [x], shape, **scale)
    if unit.activation:
        limit = {"relu6": 6.0, "relu": None}[config.activation]
        x = graph.add("ReLU", f"{convolution}_relu", [x], shape, max_value=limit)
    return x


def _tensors(config: MobileNetConfig, state: State) -> dict[str, np.ndarray]:
    """``<layer>/<variable>`` -> array with Keras' axes, in the order of the layers."""
    tensors: dict[str, np.ndarray] = {}
    for unit in layers(config):
        convolution, norm = UNIT_NAMES[config.family](unit)
        name = f"{unit.name}.conv.weight"
        tensors[f"{convolution}/kernel"] = to_dense(name, state[name])
        for ours, variable in NORM.items():
            tensors[f"{norm}/{variable}"] = state[f"{unit.name}.norm.{ours}"]
    weight = to_dense("classifier.weight", state["classifier.weight"])
    assert weight.shape[0] == feature_channels(config)
    return tensors | {
        f"{_CLASSIFIER}/kernel": weight,
        f"{_CLASSIFIER}/bias": state["classifier.bias"],
    }
