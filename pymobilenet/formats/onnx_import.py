"""ONNX import: a MobileNet's tensors and settings from a graph that another program exported.

Norms may be operators or folded into the convolutions, images may be transposed first (Keras), and
the classifier may be a matrix product or a 1x1 convolution. The graph is checked to compute the
same as a net of these families. Operators: https://onnx.ai/onnx/operators/.
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
"""The eps of the norms that replace folded ones. Any value would do: their variance is 1 - eps."""

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
    """A convolution of the graph with the padding, norm and activation around it."""

    weight: str
    stride: int
    padding: tuple[int, ...] | str
    bias: np.ndarray | None
    norm: tuple[np.ndarray, ...] | None = None
    eps: float = 0.0
    activation: str = ""


@dataclass
class Graph:
    """The content of an ONNX file.

    Attributes:
        tensors: Name of an initializer -> array; norms that are folded into convolutions are
            replaced by norms with variance 1 - eps and mean 0.
        name_map: These names -> canonical names.
        settings: Fields of `MobileNetConfig` that the graph determines.
        metadata: The metadata of the file, text by name.
        notes: Notes for the report.
    """

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    name_map: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_graph(path: Path) -> Graph:
    """Read a MobileNet of these families from an ONNX file.

    Args:
        path: The file.

    Returns:
        Tensors, names and settings.

    Raises:
        WeightsError: The file is damaged, or its graph computes something else. The message names
            the operator.
        BackendUnavailable: onnx is not installed.
    """
    onnx = load_package("onnx")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf can raise nearly anything
        raise WeightsError(f"{path}: a damaged ONNX file: {str(error)[:200]}") from None
    constants = _constants(model.graph)
    reader = _Reader(str(path), constants)
    for node in model.graph.node:
        reader.add_node(node)
    graph = reader.finish()
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if keys.CONFIG in texts and model.producer_name == "pymobilenet":
        config = MobileNetConfig.from_json(texts[keys.CONFIG]).to_dict()
        graph.settings = {**config, **graph.settings}
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
    """Collects the units of a graph from its nodes, which `add_node` takes in their order."""

    def __init__(self, path: str, constants: dict[str, np.ndarray]) -> None:
        self.path, self.constants = path, constants
        self.units: list[_Unit] = []
        self.unit_of: dict[str, int] = {}  # value -> index of the unit that computes it
        self.pads: dict[str, tuple[int, ...]] = {}  # value -> zeros around it
        self.num_sums = 0
        self.pooled = self.softmax = False
        self.classifier: dict[str, np.ndarray] = {}
        self.classifier_name = ""

    def add_node(self, node: Any) -> None:
        kind = node.op_type
        if kind not in _KNOWN:
            raise WeightsError(
                f"{self.path}: the operator {kind} ({node.name or node.output[0]}) is not "
                "supported: no net of these families has it"
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
        for table in (self.unit_of, self.pads, self.constants):
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
            raise WeightsError(f"{self.path}: the weight of {node.name} must be a constant")
        weight = self.constants[name]
        bias = self.constants.get(node.input[2]) if len(node.input) > 2 else None
        if self.pooled:
            self._set_classifier(name, weight.reshape(weight.shape[:2]), bias)
            return
        if any(step != 1 for step in attributes.get("dilations", [1])):
            raise WeightsError(f"{self.path}: {node.name} is dilated, which these nets are not")
        padding: tuple[int, ...] | str = attributes.get("auto_pad", "NOTSET")
        if padding in ("NOTSET", "VALID"):
            pads = tuple(attributes.get("pads", (0, 0, 0, 0)))
            pads_before = self.pads.get(node.input[0], (0, 0, 0, 0))
            padding = tuple(a + b for a, b in zip(pads, pads_before, strict=True))
        stride = attributes.get("strides", [1, 1])[0]
        self.unit_of[node.output[0]] = len(self.units)
        self.units.append(_Unit(name, stride, padding, bias))

    def _batchnormalization(self, node: Any) -> None:
        index = self.unit_of.get(node.input[0])
        if index is None or self.units[index].norm is not None:
            raise WeightsError(f"{self.path}: {node.name} must follow a convolution")
        vectors = tuple(self.constants[name] for name in node.input[1:5])
        eps = _attributes(node).get("epsilon", 1e-5)
        self.units[index].norm, self.units[index].eps = vectors, eps
        self.unit_of[node.output[0]] = index

    def _activation(self, node: Any) -> None:
        index = self.unit_of.get(node.input[0])
        if index is None:
            raise WeightsError(f"{self.path}: {node.op_type} {node.name} must follow a convolution")
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
        self.units[index].activation = kind

    def _scalar(self, node: Any, index: int) -> float | None:
        names = list(node.input)
        if len(names) <= index or not names[index]:
            return None
        return float(self.constants[names[index]])

    def _add(self, node: Any) -> None:
        vectors = [self.constants[name] for name in node.input if name in self.constants]
        if not vectors:
            self.num_sums += 1
        elif self.classifier:
            self.classifier["bias"] = self.classifier.get("bias", 0) + vectors[0].reshape(-1)
        else:
            indices = [self.unit_of[name] for name in node.input if name in self.unit_of]
            if not indices or vectors[0].size != self._out_channels(indices[0]):
                raise WeightsError(
                    f"{self.path}: {node.name} must add two activations, or a bias to a "
                    "convolution. Received: another constant"
                )
            unit = self.units[indices[0]]
            unit.bias = vectors[0].reshape(-1) + (0 if unit.bias is None else unit.bias)
            self.unit_of[node.output[0]] = indices[0]

    def _out_channels(self, index: int) -> int:
        return int(self.constants[self.units[index].weight].shape[0])

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
            raise WeightsError(f"{self.path}: its head must have one layer. Received: also {name}")
        self.classifier_name = name
        self.classifier = {"weight": weight}
        if bias is not None:
            self.classifier["bias"] = bias.reshape(-1)

    def finish(self) -> Graph:
        """Return the content of the graph, checked against a net of these families."""
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
            raise WeightsError(
                f"{self.path}: the graph must be a MobileNet of these families: {match}"
            )
        graph.settings = {"norm_eps": norm_eps, **self._settings(match, graph.tensors)}
        graph.name_map = {peer: canonical for canonical, peer in match.names.items()}
        graph.name_map |= {peer: f"{unit}.conv.bias" for peer, unit in match.biases.items()}
        for leaf, tensor in self.classifier.items():
            name = f"{self.classifier_name}:{leaf}"
            graph.tensors[name] = np.array(tensor, order="C")
            graph.name_map[name] = f"classifier.{leaf}"
        if folded:
            graph.notes = (f"the norms of {len(folded)} convolutions are folded into them",)
        return graph

    def _settings(self, match: Match, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        shapes = {canonical: tensors[peer].shape for canonical, peer in match.names.items()}
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
        if self.num_sums != expected:
            raise WeightsError(
                f"{self.path}: must have {expected} sums of a block's input and output. "
                f"Received: {self.num_sums}"
            )


def _tensors(
    units: list[_Unit], constants: Mapping[str, np.ndarray], eps: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each unit's tensors by name, in order, with a norm in place of each folded one."""
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
        for leaf, vector in zip(NORM, vectors, strict=True):
            yield f"{unit.weight}:norm.{leaf}", vector


def _attributes(node: Any) -> dict[str, Any]:
    get = load_package("onnx.helper").get_attribute_value
    values = {attribute.name: get(attribute) for attribute in node.attribute}
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in values.items()
    }
