"""An ONNX file in ONNX Runtime, every node of which is a layer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.backends.trace import Layer, Participant, Trace
from pymobilenet.errors import BackendUnavailable, ConfigError
from pymobilenet.files import check_regular
from pymobilenet.parity.diff.map_ops import same_padding

ACTIVATIONS = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "HardSigmoid": "hardsigmoid",
    "HardSwish": "hardswish",
    "Softplus": "softplus",
    "Mish": "mish",
    "Gelu": "gelu",
}
"""Operators without settings -> activation function."""

SHAPES = ("Identity", "Cast", "Dropout", "Shape", "Unsqueeze", "Gather", "Slice", "Transpose")
"""Operators that compute no values of a model."""


class OnnxParticipant(Participant):
    """An ONNX file with one input and one output.

    Args:
        path: The file.
        name: How reports call it; by default the file's name.

    Raises:
        BackendUnavailable: onnx or onnxruntime is not installed.
        ConfigError: The file is not ONNX, or has several inputs.
    """

    framework = "ONNX Runtime"

    def __init__(self, path: Path, name: str | None = None) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise BackendUnavailable(
                f"ONNX files require onnx and onnxruntime: pip install pymobilenet[onnx] ({error})"
            ) from error
        self.name = name or path.name
        self._runtime = onnxruntime
        try:
            check_regular(path)
            self._model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
            onnx.checker.check_model(self._model)
        except Exception as error:  # protobuf's and onnx's own classes
            raise ConfigError(f"{path}: must be an ONNX file. Received: {error}") from error
        graph = self._model.graph
        self._weights = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self._weights[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        inputs = [value for value in graph.input if value.name not in self._weights]
        if len(inputs) != 1:
            raise ConfigError(f"{path}: must have one input. Received: {[v.name for v in inputs]}")
        self._input = inputs[0].name
        element = inputs[0].type.tensor_type.elem_type
        self.dtypes = ("float64",) if element == onnx.TensorProto.DOUBLE else ("float32",)
        self._nodes: dict[str, Any] = {}

    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:  # noqa: ARG002
        """Run the file with every intermediate value as an output; see `Participant.trace`."""
        import onnx

        model = copy.deepcopy(self._model)
        nodes = [node for node in model.graph.node if node.op_type != "Constant"]
        known = {value.name for value in model.graph.output}
        wanted = [name for node in nodes for name in node.output if name]
        model.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name) for name in wanted if name not in known
        )
        session = self._session(model)
        names = [value.name for value in session.get_outputs()]
        values = dict(zip(names, session.run(names, {self._input: inputs}), strict=True))
        values |= self._weights | {self._input: inputs}
        layers = []
        for node in nodes:
            layer = self._layer(node, values)
            self._nodes[layer.name] = node
            layers.append(layer)
        return Trace(tuple(layers), values[model.graph.output[0].name])

    def run_layer(self, layer: Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Run one node; see `Participant.run_layer`."""
        import onnx

        node = self._nodes[layer.name]
        variable = [name for name in node.input if name and name not in self._weights]
        weights = [t for t in self._weights if t in node.input]
        graph = onnx.helper.make_graph(
            [node],
            "layer",
            [
                onnx.helper.make_tensor_value_info(
                    name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
                )
                for name, value in zip(variable, inputs, strict=True)
            ],
            [onnx.helper.make_empty_tensor_value_info(node.output[0])],
            [onnx.numpy_helper.from_array(self._weights[name], name) for name in weights],
        )
        model = onnx.helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        session = self._session(model)
        feed = dict(zip(variable, inputs, strict=True))
        return session.run(None, feed)[0]

    def _session(self, model: Any) -> Any:
        options = self._runtime.SessionOptions()
        options.graph_optimization_level = self._runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        return self._runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def versions(self) -> dict[str, str]:
        """Return ONNX Runtime's version."""
        return {"onnxruntime": self._runtime.__version__}

    def _layer(self, node: Any, values: dict[str, np.ndarray]) -> Layer:
        import onnx

        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        inputs = tuple(values[name] for name in node.input if name and name not in self._weights)
        weights = [self._weights[name] for name in node.input if name in self._weights]
        kind, params, settings = _describe(node.op_type, attributes, weights, inputs)
        name = node.name or node.output[0]
        return Layer(name, kind, inputs, values[node.output[0]], params, settings)


def _pairs(pads: Sequence[int]) -> tuple[tuple[int, int], ...]:
    axes = len(pads) // 2
    return tuple((pads[axis], pads[axis + axes]) for axis in range(axes))


def _describe(
    operator: str,
    attributes: dict[str, Any],
    weights: list[np.ndarray],
    inputs: tuple[np.ndarray, ...],
) -> tuple[str, dict[str, np.ndarray], dict[str, Any]]:
    """Return kind, parameters and settings of a node."""
    if operator in ("Conv", "ConvTranspose"):
        axes = weights[0].ndim - 2
        settings = {
            "stride": tuple(attributes.get("strides", (1,) * axes)),
            "padding": _padding(attributes, weights[0].shape[2:], inputs[0].shape[2:]),
            "dilation": tuple(attributes.get("dilations", (1,) * axes)),
            "groups": attributes.get("group", 1),
        }
        if operator == "ConvTranspose":
            settings["output_padding"] = tuple(attributes.get("output_padding", (0,) * axes))
        kind = "conv" if operator == "Conv" else "conv_transpose"
        return kind, dict(zip(("weight", "bias"), weights, strict=False)), settings
    if operator in ("Gemm", "MatMul") and weights:
        weight = weights[0] if attributes.get("transB") else weights[0].T
        return "dense", dict(zip(("weight", "bias"), [weight, *weights[1:]], strict=False)), {}
    if operator == "BatchNormalization":
        names = ("weight", "bias", "running_mean", "running_var")
        settings = {"eps": attributes.get("epsilon", 1e-5), "training": False}
        return "batch_norm", dict(zip(names, weights, strict=False)), settings
    if operator == "LayerNormalization":
        settings = {"eps": attributes.get("epsilon", 1e-5), "axes": weights[0].ndim}
        return "layer_norm", dict(zip(("weight", "bias"), weights, strict=False)), settings
    if operator in ACTIVATIONS:
        return "activation", {}, {"function": ACTIVATIONS[operator]}
    if operator == "Clip":
        bounds = [float(bound) for bound in weights or (attributes["min"], attributes["max"])]
        is_relu6 = bounds == [0.0, 6.0]
        limits = {} if is_relu6 else {"low": bounds[0], "high": bounds[-1]}
        return "activation", {}, {"function": "relu6" if is_relu6 else "hardtanh", **limits}
    if operator == "LeakyRelu":
        return "activation", {}, {"function": "leaky_relu", "slope": attributes.get("alpha", 0.01)}
    if operator in ("GlobalAveragePool", "ReduceMean"):
        return "mean_pool", {}, {"output_size": (1, 1)}
    if operator == "GlobalMaxPool":
        return "max_pool", {}, {"output_size": (1, 1)}
    if operator in ("MaxPool", "AveragePool"):
        size = tuple(attributes["kernel_shape"])
        settings = {
            "size": size,
            "stride": tuple(attributes.get("strides", (1,) * len(size))),
            "padding": _padding(attributes, size, inputs[0].shape[2:]),
            "ceil": bool(attributes.get("ceil_mode", 0)),
        }
        if operator == "AveragePool":
            settings["count_padding"] = bool(attributes.get("count_include_pad", 0))
        return "max_pool" if operator == "MaxPool" else "mean_pool", {}, settings
    if operator in ("Softmax", "LogSoftmax"):
        kind = "softmax" if operator == "Softmax" else "log_softmax"
        return kind, {}, {"axis": attributes.get("axis", -1)}
    if operator in ("Flatten", "Reshape", "Squeeze"):
        return "flatten", {}, {}
    if operator in ("Add", "Mul") and len(inputs) == 2:
        return "add" if operator == "Add" else "multiply", {}, {}
    if operator == "Concat":
        return "concat", {}, {"axis": attributes["axis"]}
    if operator in SHAPES:
        return "identity", {}, {}
    return "other", {}, {"function": operator}


def _padding(
    attributes: dict[str, Any], kernel: Sequence[int], sizes: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Return the pixels before and after each axis, also of ``auto_pad``."""
    axes = len(kernel)
    mode = attributes.get("auto_pad", b"NOTSET")
    if mode not in (b"SAME_UPPER", b"SAME_LOWER"):
        return _pairs(attributes.get("pads", (0,) * 2 * axes))
    strides = attributes.get("strides", (1,) * axes)
    pairs = same_padding(sizes, kernel, strides, attributes.get("dilations"))
    return pairs if mode == b"SAME_UPPER" else tuple((high, low) for low, high in pairs)
