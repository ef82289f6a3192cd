"""Who is measured: this project's backends in their ways, and what users would write without it."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pymobilenet.backends import backend
from pymobilenet.backends.base import Model
from pymobilenet.backends.julia import unavailable
from pymobilenet.backends.julia.runtime import allocated, bench_peers, has_metalhead
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import BackendUnavailable, ConfigError

RATE = 1e-3
TRAIN = TrainConfig(optimizer="adam", rate=RATE)

Job = Callable[[], Any]
"""One training step, or one prediction."""

Make = Callable[[MobileNetConfig, np.ndarray, np.ndarray], Job]
"""From a config, images (N, C, H, W) float32 and labels (N,) to what is timed."""


class Contender(NamedTuple):
    """`train` and `predict` make the two jobs; None for what it cannot do.

    `backend` is the one whose framework it runs in; `missing` says why it cannot be measured here,
    or nothing; `allocated` counts the bytes its framework's collector has handed out.
    """

    name: str
    backend: str
    train: Make | None
    predict: Make | None
    missing: Callable[[], str | None] = lambda: None
    allocated: Callable[[], int] | None = None


def _step(name: str, **options: Any) -> Make:
    def make(config: MobileNetConfig, images: np.ndarray, labels: np.ndarray) -> Job:
        model = _build(name, config, options)
        model.set_optimizer(TRAIN)
        stack = ExitStack()  # never closed: the model trains as in `fit` for as long as it lives
        stack.enter_context(model.fitting())
        return lambda: (model.step(images, labels, RATE), stack)

    return make


def _predict(name: str, **options: Any) -> Make:
    def make(config: MobileNetConfig, images: np.ndarray, _labels: np.ndarray) -> Job:
        model = _build(name, config, options)
        return lambda: model.predict(images)

    return make


def _frozen(name: str, **options: Any) -> Make:
    def make(config: MobileNetConfig, images: np.ndarray, _labels: np.ndarray) -> Job:
        run = _build(name, config, options).freeze()
        return lambda: run(images)

    return make


def _build(name: str, config: MobileNetConfig, options: dict[str, Any]) -> Model:
    return backend(name).build(config, **options)


def _step_by_hand(config: MobileNetConfig, images: np.ndarray, labels: np.ndarray) -> Job:
    from pymobilenet.backends.torch.baseline import training_step

    return training_step(config, images, labels, RATE)


def _predict_by_hand(config: MobileNetConfig, images: np.ndarray, _labels: np.ndarray) -> Job:
    from pymobilenet.backends.torch.baseline import prediction

    return prediction(config, images)


def _onnxruntime(config: MobileNetConfig, images: np.ndarray, _labels: np.ndarray) -> Job:
    from pymobilenet.formats.onnx_export import export_onnx
    from pymobilenet.quantization.quantize import predictor

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(path, backend("torch").build(config))
        run = predictor(path, int(os.environ.get("OMP_NUM_THREADS", "0")))
    return lambda: run(images)


def _peer(function: str) -> Make:
    """One of julia/bench/peers.jl's, which prepares a job of Julia's."""

    def make(config: MobileNetConfig, images: np.ndarray, labels: np.ndarray) -> Job:
        model = backend("julia").build(config)
        return bench_peers(function, model, images, labels)

    return make


def _without_metalhead() -> str | None:
    absent = "the Julia project has no Metalhead: `juliapkg.add` brings it"
    return unavailable() or (None if has_metalhead() else absent)


def _without_onnx() -> str | None:
    absent = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def _in_julia(
    name: str, train: Make, predict: Make, missing: Callable[[], str | None] = unavailable
) -> Contender:
    return Contender(name, "julia", train, predict, missing, allocated)


CONTENDERS = (
    Contender("torch by hand, channels_last", "torch", _step_by_hand, _predict_by_hand),
    Contender(
        "torch",
        "torch",
        _step("torch", memory_format="contiguous"),
        _predict("torch", memory_format="contiguous"),
    ),
    Contender(
        "torch channels_last",
        "torch",
        _step("torch", memory_format="channels_last"),
        _frozen("torch"),
    ),
    Contender(
        "torch compile", "torch", _step("torch", memory_format="channels_last", compiled=True), None
    ),
    Contender("onnxruntime", "torch", None, _onnxruntime, _without_onnx),
    _in_julia("julia", _step("julia"), _frozen("julia")),
    _in_julia("julia, no border", _peer("own_step"), _peer("own_predict")),
    _in_julia(
        "julia reference",
        _step("julia", kernels="reference"),
        _predict("julia", kernels="reference"),
    ),
    _in_julia("stock Flux", _peer("flux_step"), _peer("flux_predict")),
    _in_julia("Metalhead", _peer("metalhead_step"), _peer("metalhead_predict"), _without_metalhead),
)
"""In the order of the table; `torch channels_last` is what the others are held against."""

YARDSTICK = "torch channels_last"


def available(names: Sequence[str] | None = None) -> tuple[list[Contender], dict[str, str]]:
    """The contenders of these names, or all, that can be measured; and why others cannot.

    Raises:
        ConfigError: A name of none.
        BackendUnavailable: One that was asked for cannot be measured.
    """
    known = {contender.name: contender for contender in CONTENDERS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigError(f"contenders are {', '.join(known)}. Received: {', '.join(unknown)}")
    chosen = [known[name] for name in names] if names else list(CONTENDERS)
    reasons = {one.name: reason for one in chosen if (reason := one.missing())}
    if names and reasons:
        raise BackendUnavailable("; ".join(f"{name}: {why}" for name, why in reasons.items()))
    return [one for one in chosen if one.name not in reasons], reasons
