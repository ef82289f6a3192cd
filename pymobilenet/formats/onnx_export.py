"""ONNX export: the graph is built from the table of layers; equal states give equal bytes.

Format: https://onnx.ai/onnx/repo-docs/IR.html; the operators, with their attributes and the order
of their inputs: https://onnx.ai/onnx/operators/. Values and nodes have the names of the
activations (``blocks.3.depthwise.conv``), initializers those of the state (``stem.norm.bias``).
Input: ``images`` (N, C, H, W), float32, of any N, H and W; output: ``logits`` (N, classes), or
``probabilities`` if the config has softmax. Metadata: ``config`` and ``versions``, as in the
exchange file, and the texts passed by the caller. The versions are those of the libraries that
write the file, not those of the backend.
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
"""The last opset with a new definition of the convolution (for bfloat16). Later ones change nothing
in these graphs, and fewer runtimes read them; ONNX Runtime reads this one from 1.20 on."""

OLDEST_OPSET = 13
"""The first opset whose `QuantizeLinear` has a scale for each channel; `quantize` requires it."""

MOST_BYTES = 2**31 - 1 - 2**20
"""The most bytes of tensors in one file: a protobuf message has less than 2 GiB, of which 1 MiB is
reserved for the graph (https://protobuf.dev/programming-guides/proto-limits)."""

_NORM_INPUTS = ("weight", "bias", "running_mean", "running_var")


class Node(NamedTuple):
    """One operator with one output, whose name it has."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


def export_onnx(path: str | Path, model: Model, opset: int = OPSET) -> None:
    """Write a model as an ONNX file that computes the same as `model.predict`.

    Optimizer slots are not written. ONNX's checker must accept the file before it appears. Equal
    states give equal bytes, whichever backend the model is of.

    Args:
        path: The file to write.
        model: A float32 model of any backend.
        opset: The version of ONNX's operators.

    Raises:
        WeightsError: The state is not float32 or not finite, or is too large for one file.
        ConfigError: The opset is too old, or the installed onnx does not have it.
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
    """Write a config and a state as an ONNX file; see `export_onnx` for the errors.

    Args:
        path: The file to write.
        config: The config of the model.
        state: Canonical name -> array, float32.
        opset: The version of ONNX's operators.
        metadata: Further metadata, text by name.
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
    """Return the ONNX model of a config and a state.

    Args:
        config: The config of the model.
        state: Canonical name -> array, float32.
        opset: The version of ONNX's operators.
        metadata: Further metadata, text by name.
        source: The name of the file, for messages.

    Raises:
        WeightsError: As `export_onnx`.
        ConfigError: As `export_onnx`.
        BackendUnavailable: onnx is not installed.
    """
    helper, numpy_helper = (load_package(f"onnx.{name}") for name in ("helper", "numpy_helper"))
    _check_opset(opset)
    weights = {name: np.asarray(state[name]) for name in state if not _is_slot(name)}
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
    model = helper.make_model(
        graph,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="pymobilenet",
        producer_version=version("pymobilenet"),
    )
    canonical = {keys.CONFIG: config.to_json(), keys.VERSIONS: versions("onnx", "pymobilenet")}
    helper.set_model_props(model, dict(sorted({**(metadata or {}), **canonical}.items())))
    return model


def _nodes(config: MobileNetConfig) -> Iterator[Node]:
    """Yield the operators in order of execution; in evaluation dropout has none."""
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
    norm = (f"{name}.conv", *(f"{name}.norm.{leaf}" for leaf in _NORM_INPUTS))
    yield Node("BatchNormalization", norm, f"{name}.norm", {"epsilon": config.norm_eps})
    if layer.activation:
        bounds = tuple(_bounds(config))
        operator = "Clip" if bounds else "Relu"
        yield Node(operator, (f"{name}.norm", *bounds), f"{name}.act", {})


def _bounds(config: MobileNetConfig) -> dict[str, np.ndarray]:
    """Return the two scalars between which ReLU6 clips; empty for ReLU, an operator without any."""
    if config.activation == "relu":
        return {}
    return {"relu6.min": np.array(0, np.float32), "relu6.max": np.array(6, np.float32)}


def _is_slot(name: str) -> bool:
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
    """Return the JSON text of the metadata ``versions``.

    Args:
        *packages: Names of installed packages.
    """
    by_package = {package: version(package) for package in packages}
    return json.dumps(by_package, sort_keys=True, separators=(",", ":"))


def load_package(name: str) -> Any:
    """Import and return a module of onnx or onnxruntime, which are optional.

    Args:
        name: The name of the module.

    Raises:
        BackendUnavailable: The package is not installed or does not load.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        raise BackendUnavailable(
            f"ONNX files require {name.split('.')[0]}, which does not import ({error}): "
            "pip install pymobilenet[onnx]"
        ) from None
