"""Changes of an ONNX graph before and after ONNX Runtime quantizes it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from pymobilenet.formats.onnx_export import load_package

if TYPE_CHECKING:
    import onnx

_WEIGHTED = ("Conv", "Gemm")
"""The operators whose inputs are values, weight and bias."""


def fold_norms(graph: onnx.ModelProto) -> None:
    """Fold each norm into the convolution before it, which gets a bias and the norm's output name.

    ``(conv - mean) / sqrt(var + eps) * w + b`` is ``conv * f + (b - mean * f)`` with
    ``f = w / sqrt(var + eps)``. Computed in float64, rounded once.

    Args:
        graph: The graph of an ONNX model, which is changed in place.
    """
    values = _values(graph)
    for conv, norm in itertools.pairwise(list(graph.graph.node)):
        if norm.op_type != "BatchNormalization":
            continue
        kernel, bias = conv.input[1], norm.input[2]
        weight, shift, mean, variance = (values[name].astype(np.float64) for name in norm.input[1:])
        factor = weight / np.sqrt(variance + norm.attribute[0].f)
        _set(graph, kernel, (values[kernel] * factor[:, None, None, None]).astype(np.float32))
        _set(graph, bias, (shift - mean * factor).astype(np.float32))
        conv.input.append(bias)
        conv.output[0] = norm.output[0]
        for name in (norm.input[1], *norm.input[3:]):
            graph.graph.initializer.remove(_tensor(graph, name))
        graph.graph.node.remove(norm)


class InputMeans:
    """The mean over images of each input channel of the convolutions and the classifier.

    Args:
        graph: An ONNX model whose norms are folded.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        onnx = load_package("onnx")
        inputs = (node.input[0] for node in graph.graph.node if node.op_type in _WEIGHTED)
        self._names = tuple(dict.fromkeys(inputs))
        model = onnx.ModelProto()
        model.CopyFrom(graph)
        del model.graph.output[:]
        for name in self._names:
            output = f"{name}.channels"
            operator = "Identity" if name == "pool" else "GlobalAveragePool"  # pool is (N, C)
            model.graph.node.append(onnx.helper.make_node(operator, [name], [output]))
            model.graph.output.append(onnx.ValueInfoProto(name=output))
        self._session = load_package("onnxruntime").InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        self._sums = dict.fromkeys(self._names, np.zeros(()))
        self._count = 0

    def add(self, images: np.ndarray) -> None:
        """Run a batch of images, and add its channel means.

        Args:
            images: (N, C, H, W), float32, normalised.
        """
        outputs = self._session.run(None, {"images": images})
        for name, means in zip(self._names, outputs, strict=True):
            channels = means.reshape(means.shape[:2]).astype(np.float64)
            self._sums[name] = self._sums[name] + channels.sum(axis=0)
        self._count += len(images)

    def of(self, name: str) -> np.ndarray:
        """Return the mean of each channel of a value, (C,).

        Args:
            name: The value's name in the graph.
        """
        return self._sums[name] / self._count


def correct_biases(quantized: onnx.ModelProto, folded: onnx.ModelProto, means: InputMeans) -> None:
    """Subtract from each bias the change of the output's mean by the rounding of the weights.

    Bias correction, Nagel et al., arXiv:1906.04721, section 4.2: the change is ``E[x]`` times the
    change of the weights, summed over kernel and input channels; the padding is ignored. A
    depthwise kernel has nine weights, so that their errors do not average out.

    Args:
        quantized: The int8 model, which is changed in place.
        folded: The float32 model with folded norms.
        means: Channel means of the inputs of all layers.
    """
    exact, values = _values(folded), _values(quantized)
    for node in (node for node in folded.graph.node if node.op_type in _WEIGHTED):
        x, weight, bias = node.input
        rounded = values[f"{weight}_quantized"].astype(np.float64)
        scale = values[f"{weight}_scale"].astype(np.float64)
        change = rounded * scale.reshape(-1, *[1] * (rounded.ndim - 1)) - exact[weight]
        change = change.reshape(*change.shape[:2], -1).sum(axis=2)  # (O, I/g)
        shift = (change * _grouped(means.of(x), change.shape)).sum(axis=1)
        units = shift / values[f"{bias}_quantized_scale"]
        corrected = np.rint(values[f"{bias}_quantized"] - units).clip(-(2**31), 2**31 - 1)
        _set(quantized, f"{bias}_quantized", corrected.astype(np.int32))


def _grouped(channels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return for each output channel its input channels, (O, I/g), of `channels`, (I,)."""
    outputs, inputs = shape
    groups = len(channels) // inputs
    return np.repeat(channels.reshape(groups, inputs), outputs // groups, axis=0)


def _values(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    onnx = load_package("onnx")
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def _tensor(graph: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in graph.graph.initializer if tensor.name == name)


def _set(graph: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    numpy_helper = load_package("onnx.numpy_helper")
    _tensor(graph, name).CopyFrom(numpy_helper.from_array(values, name))
