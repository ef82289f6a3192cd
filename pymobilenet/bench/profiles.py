"""Where the time of a call goes: the seconds of each kind of kernel, from each library's profiler.

A profiler adds some time to each operator, so that the sum exceeds the time of the call alone:
noticeably so in small nets. The kinds are those of `pymobilenet.bench.roofline`, and ``other``:
conversions, Python, and whatever else is none of the kinds.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet.architecture import layers
from pymobilenet.backends.julia.kernel_times import kernel_seconds
from pymobilenet.bench.onnx_peers import chosen_threads, onnx_file, openvino_request
from pymobilenet.bench.roofline import kind_of
from pymobilenet.config import MobileNetConfig
from pymobilenet.formats.onnx_export import load_package

if TYPE_CHECKING:
    from pymobilenet.bench.contenders import Make

OTHER = "other"

RUNS = 7
"""Profiled runs, after `WARM_UP` that do not count. The one of the median time is reported."""

WARM_UP = 3

Seconds = dict[str, float]
"""Kind of kernel, or `OTHER` -> seconds in one run."""

Profile = Callable[[MobileNetConfig, np.ndarray, np.ndarray], Seconds]
"""Returns the seconds of a typical run, from a config, images and labels."""

TORCH_KINDS = {
    "aten::batch_norm": "norm",
    "aten::native_batch_norm_backward": "norm",
    "aten::relu": "norm",
    "aten::relu6": "norm",
    "aten::clamp_": "norm",
    "aten::threshold_backward": "norm",
    "aten::hardtanh_backward": "norm",
    "aten::mean": "head",
    "aten::linear": "head",
    "aten::cross_entropy_loss": "head",
    "NllLossBackward0": "head",
    "LogSoftmaxBackward0": "head",
    "AddmmBackward0": "head",
    "MeanBackward1": "head",
    "Optimizer.step#Adam.step": "optimizer",
}
"""Operators of torch that are of one kind wherever they are; the kind of a convolution is that of
its weight."""

OPENVINO_KINDS = {
    "ReduceMean": "head",
    "FullyConnected": "head",
    "FullyConnectedQuantizedLegacy": "head",
    "Add": "pointwise",
    "Eltwise": "pointwise",
    "Clamp": "norm",
    "Relu": "norm",
}
"""Types of nodes that are no convolution -> kind."""

TORCH_WEIGHTS = {"aten::conv2d": 1, "aten::convolution_backward": 2}
"""Operator -> which of its arguments is the weight."""


def of_torch(make: Make) -> Profile:
    """Return the profile of a job of torch, by its profiler.

    Args:
        make: Makes the job.
    """

    def profile(config: MobileNetConfig, images: np.ndarray, labels: np.ndarray) -> Seconds:
        from pymobilenet.backends.torch.timing import operator_seconds

        kinds = {layer.weight_shape: kind_of(layer) for layer in layers(config)}

        def kind(name: str, shapes: list[list[int]]) -> str | None:
            if name not in TORCH_WEIGHTS:
                return TORCH_KINDS.get(name)
            outputs, inputs, height, width = shapes[TORCH_WEIGHTS[name]]
            return kinds[outputs, inputs, height, width]

        job = make(config, images, labels)
        return _typical(_with_other(*operator_seconds(job, kind)) for _ in range(WARM_UP + RUNS))

    return profile


def of_julia(job: str) -> Profile:
    """Return the profile of a job of MobileNets.jl in a process of Julia, by its profiler.

    Args:
        job: train or predict.
    """

    def profile(config: MobileNetConfig, images: np.ndarray, _labels: np.ndarray) -> Seconds:
        seconds = kernel_seconds(job, config, len(images), chosen_threads())
        return _with_other(seconds, seconds.pop("total"))

    return profile


def of_onnxruntime(precision: str) -> Profile:
    """Return the profile of ONNX Runtime's predictions, by the file that its profiler writes.

    Args:
        precision: float32 or int8.
    """

    def profile(config: MobileNetConfig, images: np.ndarray, _labels: np.ndarray) -> Seconds:
        with onnx_file(config, precision) as path:
            runtime = load_package("onnxruntime")
            options = runtime.SessionOptions()
            options.intra_op_num_threads = chosen_threads()
            options.enable_profiling = True
            options.profile_file_prefix = str(path.with_suffix(""))
            session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            for _ in range(WARM_UP + RUNS):
                session.run(None, {"images": images})
            events = json.loads(Path(session.end_profiling()).read_text())
        return _typical(_onnxruntime_runs(config, events))

    return profile


def _onnxruntime_runs(
    config: MobileNetConfig, events: Iterable[dict[str, Any]]
) -> Iterator[Seconds]:
    """Yield the seconds of each run: the events of its nodes precede that of the run."""
    kinds = {layer.name: kind_of(layer) for layer in layers(config)}
    seconds: Counter[str] = Counter()
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            kind = _onnx_kind(event["name"], event["args"]["op_name"], kinds)
            seconds[kind] += event["dur"] / 1e6
        elif event["name"] == "model_run":
            del seconds[OTHER]
            yield _with_other(seconds, event["dur"] / 1e6)
            seconds.clear()


def _onnx_kind(node: str, operator: str, kinds: dict[str, str]) -> str:
    """Return the kind of a node, whose name begins with that of the activation it computes."""
    layer, _, tensor = node.rpartition(".")
    if node.startswith(("pool", "logits")):
        return "head"
    if "Conv" in operator:
        return kinds[layer]
    if tensor.startswith("add"):
        return "pointwise"
    return "norm" if tensor.startswith(("norm", "act")) and layer in kinds else OTHER


def of_openvino(precision: str) -> Profile:
    """Return the profile of OpenVINO's predictions, by its performance counters.

    Args:
        precision: float32 or int8.
    """

    def profile(config: MobileNetConfig, images: np.ndarray, _labels: np.ndarray) -> Seconds:
        with onnx_file(config, precision) as path:
            request = openvino_request(path, PERF_COUNT=True)

        def run() -> Seconds:
            start = time.perf_counter()
            request.infer([images], share_inputs=True)
            total = time.perf_counter() - start
            nodes = [(n.node_type, n.real_time.total_seconds()) for n in request.profiling_info]
            return _with_other(_openvino_kinds(config, nodes), total)

        return _typical(run() for _ in range(WARM_UP + RUNS))

    return profile


def _openvino_kinds(config: MobileNetConfig, nodes: Iterable[tuple[str, float]]) -> Seconds:
    """Return the seconds of each kind, from the types and seconds of nodes in order of execution.

    The names of convolutions are lost when norms are folded; their order is that of the layers.
    """
    convolutions = iter(layers(config))
    seconds: Seconds = defaultdict(float)
    for operator, duration in nodes:
        if "Convolution" in operator:
            seconds[kind_of(next(convolutions))] += duration
        elif operator in OPENVINO_KINDS and duration:  # 0 if it is part of another node
            seconds[OPENVINO_KINDS[operator]] += duration
    return seconds


def _with_other(seconds: Mapping[str, float], total: float) -> Seconds:
    return {**seconds, OTHER: max(0.0, total - sum(seconds.values()))}


def _typical(runs: Iterable[Seconds]) -> Seconds:
    """Return the run of the median time, after those of the warm-up."""
    counted = sorted(list(runs)[WARM_UP:], key=lambda seconds: sum(seconds.values()))
    return counted[len(counted) // 2]
