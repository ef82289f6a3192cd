"""Layers as arrays and JSON, for files of recorded outputs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymobilenet.backends.trace import KINDS, KnownFloors, Layer, Trace, TrainingStep
from pymobilenet.strict_json import parse_object

MOST_BYTES = 2**32
"""A recorded layer whose settings make an array larger than this, by padding or stride, is
refused: the diagnosis computes such layers."""


@dataclass(frozen=True)
class Content:
    """What a file of recorded outputs holds.

    Attributes:
        name: How the model was called.
        inputs: (N, ...).
        trace: What it computed from them.
        floors: Its noise floors.
        versions: Of the libraries that computed.
        labels: (N,), int64, if a training step was recorded.
        step: That training step.
    """

    name: str
    inputs: np.ndarray
    trace: Trace
    floors: KnownFloors
    versions: dict[str, str]
    labels: np.ndarray | None = None
    step: TrainingStep | None = None


class _Pool:
    """Arrays by number; equal ones have one number."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._numbers: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def number(self, array: np.ndarray) -> int:
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._numbers:
            self._numbers[key] = len(self.arrays)
            self.arrays[str(len(self.arrays))] = array
        return self._numbers[key]


def encode(content: Content) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return arrays by name and metadata.

    Args:
        content: What is to be written.
    """
    pool = _Pool()
    floors = content.floors
    record = {
        "name": content.name,
        "inputs": pool.number(content.inputs),
        "output": pool.number(content.trace.output),
        "floor": floors.output,
        "layers": [
            {
                **_encoded_layer(layer, pool),
                "floor": floors.whole[layer.name],
                "alone": floors.alone[layer.name],
            }
            for layer in content.trace.layers
        ],
        "versions": content.versions,
    }
    if content.step is not None and content.labels is not None:
        record["training"] = {
            "labels": pool.number(content.labels),
            "layers": [_encoded_layer(layer, pool) for layer in content.step.trace.layers],
            "output": pool.number(content.step.trace.output),
            "loss": content.step.loss,
            "output_gradient": pool.number(content.step.output_gradient),
            "gradients": _numbers(content.step.gradients, pool),
            "statistics": _numbers(content.step.statistics, pool),
            "floors": [[*key, floor] for key, floor in floors.training.items()],
        }
    return pool.arrays, {"record": json.dumps(record, allow_nan=False)}


def _encoded_layer(layer: Layer, pool: _Pool) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "inputs": [pool.number(value) for value in layer.inputs],
        "output": pool.number(layer.output),
        "params": {name: pool.number(value) for name, value in layer.params.items()},
        "settings": {name: _encoded(value) for name, value in layer.settings.items()},
    }


def _numbers(
    tensors: Mapping[str, Mapping[str, np.ndarray]], pool: _Pool
) -> dict[str, dict[str, int]]:
    return {
        layer: {name: pool.number(array) for name, array in arrays.items()}
        for layer, arrays in tensors.items()
    }


def decode(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Content:
    """Return what a file of recorded outputs holds.

    Args:
        arrays: The arrays of the file.
        metadata: Its metadata.

    Returns:
        The content.

    Raises:
        ValueError: A value is of another type or out of range.
        KeyError: A field or an array is missing.
    """
    record = parse_object(metadata["record"])
    layers, whole, alone = [], {}, {}
    for each in _typed(record["layers"], list):
        layer = _layer(each, arrays)
        layers.append(layer)
        whole[layer.name], alone[layer.name] = _floor(each["floor"]), _floor(each["alone"])
    inputs = _array(record["inputs"], arrays)
    if inputs.dtype.name not in ("float32", "float64") or inputs.ndim < 2:
        raise ValueError(f"the inputs are {inputs.dtype} of shape {inputs.shape}")
    labels, step, floors = None, None, {}
    if "training" in record:
        training = record["training"]
        labels = _array(training["labels"], arrays)
        if labels.dtype != np.int64 or labels.shape != inputs.shape[:1]:
            raise ValueError(f"the labels are {labels.dtype} of shape {labels.shape}")
        step = _step(training, arrays)
        floors = dict(_training_floor(row) for row in _typed(training["floors"], list))
    return Content(
        _typed(record["name"], str),
        inputs,
        Trace(tuple(layers), _array(record["output"], arrays)),
        KnownFloors(whole, alone, _floor(record["floor"]), floors),
        {name: _typed(value, str) for name, value in _typed(record["versions"], dict).items()},
        labels,
        step,
    )


def _array(number: Any, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return arrays[str(_typed(number, int))]


def _layer(record: Any, arrays: Mapping[str, np.ndarray]) -> Layer:
    layer = Layer(
        _typed(record["name"], str),
        _typed(record["kind"], str),
        tuple(_array(number, arrays) for number in _typed(record["inputs"], list)),
        _array(record["output"], arrays),
        {name: _array(number, arrays) for name, number in _typed(record["params"], dict).items()},
        {name: _decoded(value) for name, value in _typed(record["settings"], dict).items()},
    )
    _check(layer)
    return layer


def _step(record: Any, arrays: Mapping[str, np.ndarray]) -> TrainingStep:
    def tensors(name: str) -> dict[str, dict[str, np.ndarray]]:
        return {
            layer: {key: _array(number, arrays) for key, number in _typed(numbers, dict).items()}
            for layer, numbers in _typed(record[name], dict).items()
        }

    layers = tuple(_layer(each, arrays) for each in _typed(record["layers"], list))
    return TrainingStep(
        Trace(layers, _array(record["output"], arrays)),
        _typed(record["loss"], float),
        _array(record["output_gradient"], arrays),
        tensors("gradients"),
        tensors("statistics"),
    )


def _training_floor(row: Any) -> tuple[tuple[str, str, str], float]:
    quantity, layer, name, floor = _typed(row, list)
    key = _typed(quantity, str), _typed(layer, str), _typed(name, str)
    return key, _floor(floor)


def _encoded(value: Any) -> Any:
    """Return a setting as JSON; numbers that JSON does not have are objects with their text."""
    if isinstance(value, (tuple, list)):
        return [_encoded(item) for item in value]
    if isinstance(value, (bool, str, int)) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else {"float": str(number)}


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decoded(item) for item in value)
    if isinstance(value, dict):
        return float(_typed(value["float"], str))
    return value


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r:.60} is not of the type {kind.__name__}")
    return value


def _floor(value: Any) -> float:
    floor = _typed(value, float)
    if not 0 < floor < math.inf:
        raise ValueError(f"a floor is {floor}")
    return floor


def _check(layer: Layer) -> None:
    """Raise an error for an unknown kind, or settings with which the layer would be huge."""
    if layer.kind not in KINDS:
        raise ValueError(f"a layer is of the kind {layer.kind!r:.60}")
    for value in layer.inputs:
        kernel = layer.params["weight"].shape[2:] if "weight" in layer.params else ()
        settings = {"size": kernel, **layer.settings}
        count = value.itemsize * math.prod(value.shape[:2])
        for axis, extent in enumerate(value.shape[2:]):
            stride, dilation, size = (
                _size(settings.get(name), axis) for name in ("stride", "dilation", "size")
            )
            padding = settings.get("padding") or ()
            pair = padding[axis] if axis < len(padding) else (0, 0)
            borders = sum(abs(_typed(border, int)) for border in pair)
            count *= extent * stride + borders + dilation * size
        if count > MOST_BYTES:
            raise ValueError(f"{layer.name!r:.60} would compute with {count} bytes")


def _size(sizes: Any, axis: int) -> int:
    """Return the size of an axis; 1 where the layer has none."""
    if not isinstance(sizes, tuple) or axis >= len(sizes):
        return 1
    size = _typed(sizes[axis], int)
    if size < 1:
        raise ValueError(f"a size is {size}")
    return size
