"""ONNX, out: the graph built by hand from the table of layers, the same bytes for the same state.

Format: https://onnx.ai/onnx/repo-docs/IR.html; the operators, with their attributes and the order
of their inputs: https://onnx.ai/onnx/operators/. Values and nodes have the names of the
activations (``blocks.3.depthwise.conv``), initializers those of the state (``stem.norm.bias``).
Input: ``images`` (N, C, H, W), float32, of any N, H and W; output: ``logits`` (N, classes), or
``probabilities`` where the config says softmax. Metadata: ``config`` and ``versions``, as in the
exchange file, and what else the writer was given. The versions are those of the libraries that
write the file, whatever backend the state comes from.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.architecture import Layer, layers
from pymobilenet.backends.base import Model
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import BackendUnavailable, ConfigError, WeightsError
from pymobilenet.files import atomic_write
from pymobilenet.weights import check_state, state_shapes

if TYPE_CHECKING:
    import onnx

OPSET = 22
"""The last opset that defines a convolution anew (for bfloat16). A later one changes nothing in
these graphs but the number of runtimes that can read them; ONNX Runtime can from 1.20 on."""

OLDEST_OPSET = 13
"""The first whose `QuantizeLinear` has a scale for each channel, which `quantize` needs."""

MOST_BYTES = 2**31 - 1 - 2**20
"""Of tensors in one file: a protobuf message ends at 2 GiB, of which a mebibyte is left for the
graph (https://protobuf.dev/programming-guides/proto-limits)."""

_NORM_INPUTS = ("weight", "bias", "running_mean", "running_var")


class Node(NamedTuple):
    """One operator; it is named after its one output."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


def export_onnx(path: str | Path, model: Model, opset: int = OPSET) -> None:
    """Write `model`, of any backend, as an ONNX file that computes what `model.predict` does.

    Moments of an optimizer are left out. The file appears only after ONNX's own checker has passed
    it, and the same state gives the same bytes whichever backend holds it.

    Raises:
        WeightsError: A state that is not float32 or not finite, or that is too large for one file.
        ConfigError: An opset that is too old or that the installed onnx does not know.
        BackendUnavailable: onnx is not installed.
    """
    write_onnx(path, model.config, model.get_state(), opset)


def write_onnx(
    path: str | Path,
    config: MobileNetConfig,
    state: Mapping[str, np.ndarray],
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """`export_onnx` for a config and a canonical state, float32, without a backend.

    Texts in `metadata` travel in the file's own.
    """
    graph = onnx_model(config, state, opset, metadata, source=str(path))
    load_package("onnx").checker.check_model(graph, full_check=True)
    with atomic_write(path) as file:
        file.write(graph.SerializeToString(deterministic=True))


def onnx_model(
    config: MobileNetConfig,
    state: Mapping[str, np.ndarray],
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
    source: str = "state",
) -> onnx.ModelProto:
    """The graph, as the onnx package holds it; arguments and errors as in `write_onnx`."""
    helper, numpy_helper = (load_package(f"onnx.{name}") for name in ("helper", "numpy_helper"))
    _check_opset(opset)
    weights = {name: np.asarray(state[name]) for name in state if not _is_moment(name)}
    _check_size(config, source)
    check_state(config, weights, "float32", source=source)
    tensors = {name: weights[name] for name in state_shapes(config)} | _bounds(config)
    nodes = tuple(_nodes(config))
    float32 = helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
    images = ("N", config.in_channels, "H", "W")
    graph = helper.make_graph(
        [
            helper.make_node(
                node.operator, node.inputs, [node.output], node.output, **node.attributes
            )
            for node in nodes
        ],
        f"mobilenet_{config.family}",
        [helper.make_tensor_value_info("images", float32, images)],
        [helper.make_tensor_value_info(nodes[-1].output, float32, ("N", config.num_classes))],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    made = helper.make_model(
        graph,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="pymobilenet",
        producer_version=version("pymobilenet"),
    )
    own = {keys.CONFIG: config.to_json(), keys.VERSIONS: versions("onnx", "pymobilenet")}
    helper.set_model_props(made, dict(sorted({**(metadata or {}), **own}.items())))
    return made


def _nodes(config: MobileNetConfig) -> Iterator[Node]:
    """The operators in the order they are computed; dropout computes nothing outside training."""
    block, entry, x = "", "", "images"
    for layer in layers(config):
        if layer.block != block:
            block, entry = layer.block, x
        for node in _unit(layer, x, config):
            yield node
            x = node.output
        if layer.residual:
            yield Node("Add", (entry, x), f"{block}.add", {})
            x = f"{block}.add"
    yield Node("GlobalAveragePool", (x,), "pool.mean", {})  # (N, C, 1, 1)
    yield Node("Flatten", ("pool.mean",), "pool", {"axis": 1})
    classifier = ("pool", "classifier.weight", "classifier.bias")
    yield Node("Gemm", classifier, "logits", {"transB": 1})
    if config.softmax:
        yield Node("Softmax", ("logits",), "probabilities", {"axis": 1})


def _unit(layer: Layer, x: str, config: MobileNetConfig) -> Iterator[Node]:
    name, (before, after) = layer.name, layer.padding
    convolution = {
        "group": layer.groups,
        "kernel_shape": (layer.kernel, layer.kernel),
        "pads": (before, before, after, after),  # top, left, bottom, right
        "strides": (layer.stride, layer.stride),
    }
    yield Node("Conv", (x, f"{name}.conv.weight"), f"{name}.conv", convolution)
    norm = (f"{name}.conv", *(f"{name}.norm.{part}" for part in _NORM_INPUTS))
    yield Node("BatchNormalization", norm, f"{name}.norm", {"epsilon": config.norm_eps})
    if layer.activation:
        bounds = tuple(_bounds(config))
        operator = "Clip" if bounds else "Relu"
        yield Node(operator, (f"{name}.norm", *bounds), f"{name}.act", {})


def _bounds(config: MobileNetConfig) -> dict[str, np.ndarray]:
    """The scalars between which ReLU6 clips; ReLU has an operator of its own."""
    if config.activation == "relu":
        return {}
    return {"relu6.min": np.array(0, np.float32), "relu6.max": np.array(6, np.float32)}


def _is_moment(name: str) -> bool:
    return name.startswith("optimizer.")


def _check_opset(opset: int) -> None:
    newest = load_package("onnx").defs.onnx_opset_version()
    is_int = isinstance(opset, int) and not isinstance(opset, bool)
    if not is_int or not OLDEST_OPSET <= opset <= newest:
        raise ConfigError(
            f"opset must be an integer in [{OLDEST_OPSET}, {newest}], {newest} being the newest "
            f"that the installed onnx knows. Received: {opset!r}"
        )


def _check_size(config: MobileNetConfig, source: str) -> None:
    size = sum(4 * math.prod(shape) for shape in state_shapes(config).values())
    if size > MOST_BYTES:
        raise WeightsError(
            f"{source}: one ONNX file holds at most {MOST_BYTES} bytes of tensors. Received: {size}"
        )


def versions(*packages: str) -> str:
    """The JSON text of the metadata ``versions``."""
    found = {package: version(package) for package in packages}
    return json.dumps(found, sort_keys=True, separators=(",", ":"))


def load_package(name: str) -> Any:
    """A module of onnx or onnxruntime, imported only here and only when asked for.

    Raises:
        BackendUnavailable: It is not installed or does not load.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        raise BackendUnavailable(
            f"ONNX files need {name.split('.')[0]}, which does not import ({error}): "
            "pip install pymobilenet[onnx]"
        ) from None
