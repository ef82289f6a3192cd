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
from pymobilenet.parity.diff.onnx_graph import Part, RecordedGraph
from pymobilenet.parity.diff.onnx_layers import describe, zero_padding
from pymobilenet.parity.diff.zero_padding import ZeroPadding, padded_inputs

AXES_OF_LAST = {0: 0, 1: 2, 2: 3, 3: 1, -4: 0, -3: 2, -2: 3, -1: 1}
"""Axis of (N, H, W, C) -> axis of (N, C, H, W)."""


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
        sizes = [each.dim_value for each in inputs[0].type.tensor_type.shape.dim]
        self._sizes = sizes if len(sizes) == 4 else []
        self._parts: dict[str, Part] = {}
        self._graph: RecordedGraph | None = None

    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:  # noqa: ARG002
        """Run the file with every intermediate value as an output; see `Participant.trace`.

        A file whose input is (N, H, W, C), as Keras exports it, is given its axes in that order,
        and its maps are recorded as (N, C, H, W).
        """
        import onnx

        model = copy.deepcopy(self._model)
        nodes = [node for node in model.graph.node if node.op_type != "Constant"]
        known = {value.name for value in model.graph.output}
        wanted = [name for node in nodes for name in node.output if name]
        model.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name) for name in wanted if name not in known
        )
        channels_last = self._takes_channels_last(inputs)
        given = np.ascontiguousarray(np.moveaxis(inputs, 1, -1)) if channels_last else inputs
        session = self._session(model)
        names = [value.name for value in session.get_outputs()]
        values = dict(zip(names, session.run(names, {self._input: given}), strict=True))
        values |= self._weights | {self._input: given}
        output = model.graph.output[0].name
        graph = RecordedGraph(nodes, values, self._input, output, channels_last)
        layers, parts = _layers(graph)
        self._graph, self._parts = graph, parts
        return Trace(tuple(layers), graph.array(output))

    def _takes_channels_last(self, inputs: np.ndarray) -> bool:
        """Return whether the input's sizes in the file are those of (N, H, W, C)."""
        if inputs.ndim != 4 or not self._sizes:
            return False
        channels = inputs.shape[1]
        return self._sizes[3] == channels and self._sizes[1] not in (0, channels)

    def run_layer(self, layer: Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Run the nodes of one layer; see `Participant.run_layer`."""
        import onnx

        part, graph = self._parts[layer.name], self._graph
        assert graph is not None
        feed = {
            name: np.moveaxis(value, 1, -1) if graph.is_channels_last(name) else value
            for name, value in zip(part.inputs, padded_inputs(layer, inputs), strict=True)
        }
        described = onnx.helper.make_graph(
            part.nodes,
            "layer",
            [
                onnx.helper.make_tensor_value_info(
                    name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
                )
                for name, value in feed.items()
            ],
            [onnx.helper.make_empty_tensor_value_info(part.output)],
            [onnx.numpy_helper.from_array(value, name) for name, value in part.constants.items()],
        )
        model = onnx.helper.make_model(
            described, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        arrays = {name: np.ascontiguousarray(value) for name, value in feed.items()}
        output = self._session(model).run(None, arrays)[0]
        return np.moveaxis(output, -1, 1) if graph.is_channels_last(part.output) else output

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


def _layers(graph: RecordedGraph) -> tuple[list[Layer], dict[str, Part]]:
    """Describe the layers of a run; zeros around maps become padding of the convolution."""
    import onnx

    padded = ZeroPadding()
    layers: list[Layer] = []
    parts: dict[str, Part] = {}
    for part in graph.parts():
        node = part.nodes[0]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if "axis" in attributes and graph.is_channels_last(part.inputs[0]):
            attributes["axis"] = AXES_OF_LAST[attributes["axis"]]
        inputs = [np.ascontiguousarray(graph.array(name)) for name in part.inputs]
        output = np.ascontiguousarray(graph.array(part.output))
        weights = part.weights()
        if node.op_type == "Pad":
            pairs = zero_padding(attributes, weights, graph.is_channels_last(part.inputs[0]))
            if pairs is not None:
                padded.add(inputs[0], output, pairs)
                continue
        kind, params, settings = describe(part.operators, attributes, weights, tuple(inputs))
        inputs, settings = padded.absorb(kind, inputs, settings)
        name = node.name or node.output[0]
        layers.append(Layer(name, kind, tuple(inputs), output, params, settings))
        parts[name] = part
    return layers, parts
