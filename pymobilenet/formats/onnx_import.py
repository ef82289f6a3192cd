"""ONNX, in: a MobileNet's tensors and settings from the graph that another program exported.

Norms may be operators of their own or folded into the convolutions, images may be transposed on the
way in (Keras), and the classifier may be a matrix product or a 1x1 convolution. What is computed is
read off the graph and compared with what a net of these families computes.
Operators: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.architecture import Layer, layers
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.formats.infer_config import infer_config
from pymobilenet.formats.match import Match
from pymobilenet.formats.onnx_export import load_package
from pymobilenet.formats.structure import match_structure
from pymobilenet.formats.unit_names import NORM

FOLDED_EPS = 1e-5
"""The eps of the norms that take the place of folded ones: any would do, their variance is less."""

_PASSED_THROUGH = ("Transpose", "Identity", "Dropout", "Cast")
_POOLS = ("GlobalAveragePool", "ReduceMean", "AveragePool")
_ACTIVATIONS = ("Relu", "Clip")
_KNOWN = (
    *_PASSED_THROUGH,
    *_POOLS,
    *_ACTIVATIONS,
    *("Conv", "BatchNormalization", "Pad", "Add", "Gemm", "MatMul", "Softmax", "Flatten"),
    *("Reshape", "Squeeze", "Unsqueeze", "Constant", "Shape", "Gather", "Concat", "Slice"),
)


@dataclass
class _Unit:
    """A convolution of the graph with what follows it."""

    weight: str
    stride: int
    padding: tuple[int, ...] | str
    bias: np.ndarray | None
    norm: tuple[np.ndarray, ...] | None = None
    eps: float = 0.0
    activation: str = ""


@dataclass
class Graph:
    """What an ONNX file holds.

    Attributes:
        tensors: By name: initializers', with the norms of a folded convolution made up.
        name_map: These names -> canonical names.
        settings: Fields of `MobileNetConfig` that the graph shows.
        metadata: The file's own, text by name.
        notes: Sentences for the report.
    """

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    name_map: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_graph(path: Path) -> Graph:
    """Read a MobileNet of these families out of an ONNX file.

    Raises:
        WeightsError: No whole ONNX file, or a graph that computes something else; the message names
            the operator.
        BackendUnavailable: onnx is not installed.
    """
    onnx = load_package("onnx")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises what it likes
        raise WeightsError(f"{path}: no whole ONNX file: {str(error)[:200]}") from None
    constants = _constants(model.graph)
    reader = _Reader(str(path), constants)
    for node in model.graph.node:
        reader.take(node)
    graph = reader.finish()
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if keys.CONFIG in texts and model.producer_name == "pymobilenet":
        own = MobileNetConfig.from_json(texts[keys.CONFIG]).to_dict()
        graph.settings = {**own, **graph.settings}
    known = (keys.CONFIG, keys.VERSIONS)
    graph.metadata = {name: text for name, text in texts.items() if name not in known}
    return graph


def _constants(graph: Any) -> dict[str, np.ndarray]:
    to_array = load_package("onnx.numpy_helper").to_array
    constants = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    constants[node.output[0]] = to_array(attribute.t)
    return constants


class _Reader:
    """Takes the nodes in their order and keeps what the last convolution's output became."""

    def __init__(self, path: str, constants: dict[str, np.ndarray]) -> None:
        self.path, self.constants = path, constants
        self.units: list[_Unit] = []
        self.at: dict[str, int] = {}  # a value -> the unit whose output it is, before activation
        self.pads: dict[str, tuple[int, ...]] = {}
        self.sums = 0
        self.pooled = self.softmax = False
        self.classifier: dict[str, np.ndarray] = {}
        self.classifier_name = ""

    def take(self, node: Any) -> None:
        kind = node.op_type
        if kind not in _KNOWN:
            raise WeightsError(
                f"{self.path}: no net of these families has the operator {kind} "
                f"({node.name or node.output[0]})"
            )
        if kind in _PASSED_THROUGH:
            self._pass(node)
        elif kind in _POOLS:
            self.pooled = True
        elif kind in ("Conv", "BatchNormalization", "Pad", "Add", "Gemm", "MatMul", "Softmax"):
            getattr(self, f"_{kind.lower()}")(node)
        elif kind in _ACTIVATIONS:
            self._activation(node)

    def _pass(self, node: Any) -> None:
        source = node.input[0]
        for table in (self.at, self.pads, self.constants):
            if source in table:
                value: Any = table[source]  # type: ignore[index]
                if table is self.constants and node.op_type == "Transpose":
                    value = value.transpose(_attributes(node)["perm"])
                table[node.output[0]] = value  # type: ignore[index]

    def _pad(self, node: Any) -> None:
        attributes = _attributes(node)
        pads = attributes.get("pads")
        if pads is None:
            pads = self.constants[node.input[1]].tolist()
        half = len(pads) // 2
        spatial = [axis for axis in range(half) if pads[axis] or pads[half + axis]]
        if not spatial:
            spatial = [2, 3]
        before, after = spatial[0], half + spatial[0]
        self.pads[node.output[0]] = (pads[before], pads[before], pads[after], pads[after])

    def _conv(self, node: Any) -> None:
        attributes, name = _attributes(node), node.input[1]
        if name not in self.constants:
            raise WeightsError(f"{self.path}: the weight of {node.name} is no constant")
        weight = self.constants[name]
        bias = self.constants.get(node.input[2]) if len(node.input) > 2 else None
        if self.pooled:
            self._set_classifier(name, weight.reshape(weight.shape[:2]), bias)
            return
        if any(step != 1 for step in attributes.get("dilations", [1])):
            raise WeightsError(f"{self.path}: {node.name} is dilated, which these nets are not")
        padding: tuple[int, ...] | str = attributes.get("auto_pad", "NOTSET")
        if padding in ("NOTSET", "VALID"):
            own = tuple(attributes.get("pads", (0, 0, 0, 0)))
            added = self.pads.get(node.input[0], (0, 0, 0, 0))
            padding = tuple(a + b for a, b in zip(own, added, strict=True))
        stride = attributes.get("strides", [1, 1])[0]
        self.at[node.output[0]] = len(self.units)
        self.units.append(_Unit(name, stride, padding, bias))

    def _batchnormalization(self, node: Any) -> None:
        place = self.at.get(node.input[0])
        if place is None or self.units[place].norm is not None:
            raise WeightsError(f"{self.path}: {node.name} follows no convolution")
        vectors = tuple(self.constants[name] for name in node.input[1:5])
        eps = _attributes(node).get("epsilon", 1e-5)
        self.units[place].norm, self.units[place].eps = vectors, eps
        self.at[node.output[0]] = place

    def _activation(self, node: Any) -> None:
        place = self.at.get(node.input[0])
        if place is None:
            raise WeightsError(f"{self.path}: {node.op_type} {node.name} follows no convolution")
        kind = "relu"
        if node.op_type == "Clip":
            bounds = _attributes(node)
            low = bounds.get("min", self._scalar(node, 1))
            high = bounds.get("max", self._scalar(node, 2))
            if low != 0 or high not in (6, None):
                raise WeightsError(
                    f"{self.path}: {node.name} must clip to 0 and 6. Received: {low} and {high}"
                )
            kind = "relu" if high is None else "relu6"
        self.units[place].activation = kind

    def _scalar(self, node: Any, place: int) -> float | None:
        names = list(node.input)
        if len(names) <= place or not names[place]:
            return None
        return float(self.constants[names[place]])

    def _add(self, node: Any) -> None:
        vectors = [self.constants[name] for name in node.input if name in self.constants]
        if not vectors:
            self.sums += 1
        elif self.classifier:
            self.classifier["bias"] = self.classifier.get("bias", 0) + vectors[0].reshape(-1)
        else:
            values = [self.at[name] for name in node.input if name in self.at]
            if not values or vectors[0].size != self._outputs(values[0]):
                raise WeightsError(f"{self.path}: {node.name} adds a constant, as no net of these")
            unit = self.units[values[0]]
            unit.bias = vectors[0].reshape(-1) + (0 if unit.bias is None else unit.bias)
            self.at[node.output[0]] = values[0]

    def _outputs(self, place: int) -> int:
        return int(self.constants[self.units[place].weight].shape[0])

    def _gemm(self, node: Any) -> None:
        attributes = _attributes(node)
        weight = self.constants[node.input[1]]
        weight = weight if attributes.get("transB") else weight.T
        bias = self.constants[node.input[2]] if len(node.input) > 2 else None
        self._set_classifier(node.input[1], weight * np.float32(attributes.get("alpha", 1)), bias)

    def _matmul(self, node: Any) -> None:
        self._set_classifier(node.input[1], self.constants[node.input[1]].T, None)

    def _softmax(self, _node: Any) -> None:
        self.softmax = True

    def _set_classifier(self, name: str, weight: np.ndarray, bias: np.ndarray | None) -> None:
        if self.classifier:
            raise WeightsError(f"{self.path}: its head has more than one layer: {name}")
        self.classifier_name = name
        self.classifier = {"weight": weight}
        if bias is not None:
            self.classifier["bias"] = bias.reshape(-1)

    def finish(self) -> Graph:
        graph = Graph()
        folded = [unit for unit in self.units if unit.norm is None]
        eps = {unit.eps for unit in self.units if unit.norm is not None}
        if len(eps) > 1:
            raise WeightsError(f"{self.path}: its norms have different eps: {sorted(eps)}")
        norm_eps = float(str(np.float32(eps.pop()))) if eps else FOLDED_EPS
        for name, tensor in _tensors(self.units, self.constants, norm_eps):
            graph.tensors[name] = np.array(tensor, order="C")
        match = match_structure(graph.tensors, is_ordered=True)
        if not isinstance(match, Match):
            raise WeightsError(f"{self.path}: the graph is no MobileNet of these families: {match}")
        graph.settings = {"norm_eps": norm_eps, **self._settings(match, graph.tensors)}
        graph.name_map = {peer: ours for ours, peer in match.names.items()}
        graph.name_map |= {peer: f"{unit}.conv.bias" for peer, unit in match.biases.items()}
        for part, tensor in self.classifier.items():
            name = f"{self.classifier_name}:{part}"
            graph.tensors[name] = np.array(tensor, order="C")
            graph.name_map[name] = f"classifier.{part}"
        if folded:
            graph.notes = (f"the norms of {len(folded)} convolutions are folded into them",)
        return graph

    def _settings(self, match: Match, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        shapes = {ours: tensors[peer].shape for ours, peer in match.names.items()}
        width = [shape[0] for name, shape in shapes.items() if name.endswith("conv.weight")][-1]
        shapes |= {"classifier.weight": (1, width), "classifier.bias": (1,)}
        paddings = {self._padding(unit) for unit in self.units if unit.stride == 2}
        activations = {unit.activation for unit in self.units if unit.activation}
        if len(paddings) > 1 or len(activations) > 1:
            raise WeightsError(
                f"{self.path}: its convolutions must be padded and activated alike. "
                f"Received: {sorted(paddings)}, {sorted(activations)}"
            )
        settings: dict[str, Any] = {
            "family": match.family,
            "stem_stride": self.units[0].stride,
            "padding": paddings.pop() if paddings else "symmetric",
            "activation": activations.pop() if activations else "relu6",
            "softmax": self.softmax,
        }
        inferred = infer_config(match.family, shapes)
        rows = layers(type(inferred).from_dict({**inferred.to_dict(), **settings}))
        self._check(rows)
        return settings

    def _padding(self, unit: _Unit) -> str:
        known = {(1, 1, 1, 1): "symmetric", (0, 0, 1, 1): "keras", "SAME_UPPER": "keras"}
        if unit.padding not in known:
            raise WeightsError(
                f"{self.path}: {unit.weight} must be padded by 1 on all sides, or below and to the "
                f"right. Received: {unit.padding}"
            )
        return known[unit.padding]

    def _check(self, rows: tuple[Layer, ...]) -> None:
        for row, unit in zip(rows, self.units, strict=True):
            if (row.stride, row.activation) != (unit.stride, bool(unit.activation)):
                raise WeightsError(
                    f"{self.path}: {row.name} must have stride {row.stride} and "
                    f"{'an' if row.activation else 'no'} activation. Received: stride "
                    f"{unit.stride}, {unit.activation or 'no activation'} at {unit.weight}"
                )
        expected = sum(row.residual for row in rows)
        if self.sums != expected:
            raise WeightsError(
                f"{self.path}: must have {expected} sums of a block's input and output. "
                f"Received: {self.sums}"
            )


def _tensors(
    units: list[_Unit], constants: Mapping[str, np.ndarray], eps: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Each unit's tensors by name, in order; folded norms are made up around their bias."""
    for unit in units:
        weight = constants[unit.weight]
        yield unit.weight, weight
        count = weight.shape[0]
        if unit.norm is not None:
            if unit.bias is not None:
                yield f"{unit.weight}:bias", unit.bias
            vectors: tuple[np.ndarray, ...] = unit.norm
        else:
            bias = np.zeros(count, weight.dtype) if unit.bias is None else unit.bias
            ones = np.ones(count, weight.dtype)
            vectors = (ones, bias, np.zeros_like(ones), (ones - eps).astype(weight.dtype))
        for part, vector in zip(NORM, vectors, strict=True):
            yield f"{unit.weight}:norm.{part}", vector


def _attributes(node: Any) -> dict[str, Any]:
    get = load_package("onnx.helper").get_attribute_value
    values = {attribute.name: get(attribute) for attribute in node.attribute}
    return {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}
