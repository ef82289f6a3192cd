"""The contenders: this project's backends with their options, and programs without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from pymobilenet.backends import backend
from pymobilenet.backends.base import Model
from pymobilenet.backends.julia import unavailable
from pymobilenet.backends.julia.runtime import allocated, bench_peers, has_metalhead
from pymobilenet.bench.onnx_peers import (
    FLOAT32,
    INT8,
    onnxruntime_job,
    onnxruntime_missing,
    openvino_job,
    openvino_missing,
)
from pymobilenet.bench.profiles import Profile, of_julia, of_onnxruntime, of_openvino, of_torch
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import BackendUnavailable, ConfigError

RATE = 1e-3
TRAIN = TrainConfig(optimizer="adam", rate=RATE)

Job = Callable[[], Any]
"""One training step, or one prediction."""

Make = Callable[[MobileNetConfig, np.ndarray, np.ndarray], Job]
"""Returns the job to time, from a config, images (N, C, H, W) float32 and labels (N,)."""


class Contender(NamedTuple):
    """One program whose time is measured.

    Attributes:
        name: Its name in tables.
        backend: The backend whose framework it runs in.
        train: Makes a training step; None if it cannot train.
        predict: Makes a prediction; None if it cannot predict.
        missing: Returns why it cannot be measured here, or None.
        allocated: Returns the bytes that its garbage collector has allocated so far.
        precision: In which it computes: float32 or int8.
        profiles: Job -> measures the time of each kind of kernel; without those that cannot.
    """

    name: str
    backend: str
    train: Make | None
    predict: Make | None
    missing: Callable[[], str | None] = lambda: None
    allocated: Callable[[], int] | None = None
    precision: str = FLOAT32
    profiles: Mapping[str, Profile] = MappingProxyType({})


def _step(name: str, **options: Any) -> Make:
    def make(config: MobileNetConfig, images: np.ndarray, labels: np.ndarray) -> Job:
        model = _build(name, config, options)
        model.set_optimizer(TRAIN)
        stack = ExitStack()  # is never closed: the model trains as in `fit` until it is deleted
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


def _baseline_step(config: MobileNetConfig, images: np.ndarray, labels: np.ndarray) -> Job:
    from pymobilenet.backends.torch.baseline import training_step

    return training_step(config, images, labels, RATE)


def _baseline_predict(config: MobileNetConfig, images: np.ndarray, _labels: np.ndarray) -> Job:
    from pymobilenet.backends.torch.baseline import prediction

    return prediction(config, images)


def _in_torch(name: str, train: Make, predict: Make) -> Contender:
    profiles = {"train": of_torch(train), "predict": of_torch(predict)}
    return Contender(name, "torch", train, predict, profiles=profiles)


def _in_onnxruntime(name: str, precision: str) -> Contender:
    def make(config: MobileNetConfig, images: np.ndarray, _labels: np.ndarray) -> Job:
        return onnxruntime_job(config, images, precision)

    profiles = {"predict": of_onnxruntime(precision)}
    return Contender(
        name, "torch", None, make, onnxruntime_missing, precision=precision, profiles=profiles
    )


def _in_openvino(name: str, precision: str) -> Contender:
    def make(config: MobileNetConfig, images: np.ndarray, _labels: np.ndarray) -> Job:
        return openvino_job(config, images, precision)

    def missing() -> str | None:
        return openvino_missing(precision)

    profiles = {"predict": of_openvino(precision)}
    return Contender(name, "torch", None, make, missing, precision=precision, profiles=profiles)


def _peer(function: str) -> Make:
    """Return a job that a function of julia/bench/peers.jl prepares in Julia."""

    def make(config: MobileNetConfig, images: np.ndarray, labels: np.ndarray) -> Job:
        model = backend("julia").build(config)
        return bench_peers(function, model, images, labels)

    return make


OWN = ("julia", "julia, without juliacall")
"""The contenders whose kernels are those of MobileNets.jl."""


def _metalhead_missing() -> str | None:
    reason = "Metalhead is not in the Julia project; `juliapkg.add` installs it"
    return unavailable() or (None if has_metalhead() else reason)


def _in_julia(
    name: str, train: Make, predict: Make, missing: Callable[[], str | None] = unavailable
) -> Contender:
    profiles = {job: of_julia(job) for job in ("train", "predict")} if name in OWN else {}
    return Contender(name, "julia", train, predict, missing, allocated, profiles=profiles)


CONTENDERS = (
    _in_torch("torch baseline, channels_last", _baseline_step, _baseline_predict),
    _in_torch(
        "torch",
        _step("torch", memory_format="contiguous"),
        _predict("torch", memory_format="contiguous"),
    ),
    _in_torch(
        "torch channels_last", _step("torch", memory_format="channels_last"), _frozen("torch")
    ),
    Contender(
        "torch compile", "torch", _step("torch", memory_format="channels_last", compiled=True), None
    ),
    _in_onnxruntime("onnxruntime", FLOAT32),
    _in_openvino("OpenVINO", FLOAT32),
    _in_onnxruntime("onnxruntime int8", INT8),
    _in_openvino("OpenVINO int8", INT8),
    _in_julia("julia", _step("julia"), _frozen("julia")),
    _in_julia("julia, without juliacall", _peer("own_step"), _peer("own_predict")),
    _in_julia(
        "julia reference",
        _step("julia", kernels="reference"),
        _predict("julia", kernels="reference"),
    ),
    _in_julia("stock Flux", _peer("flux_step"), _peer("flux_predict")),
    _in_julia("Metalhead", _peer("metalhead_step"), _peer("metalhead_predict"), _metalhead_missing),
)
"""In the order of the table."""

RATIO_BASE = "torch channels_last"
"""The contender that the times of the others are divided by."""


def available(names: Sequence[str] | None = None) -> tuple[list[Contender], dict[str, str]]:
    """Return the contenders that can be measured on this machine.

    Args:
        names: The names of contenders; by default all.

    Returns:
        The contenders, and for each other one the reason why it cannot be measured.

    Raises:
        ConfigError: A name is unknown.
        BackendUnavailable: A contender in `names` cannot be measured.
    """
    known = {contender.name: contender for contender in CONTENDERS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigError(
            f"contender must be one of {', '.join(known)}. Received: {', '.join(unknown)}"
        )
    chosen = [known[name] for name in names] if names else list(CONTENDERS)
    reasons = {one.name: reason for one in chosen if (reason := one.missing())}
    if names and reasons:
        raise BackendUnavailable("; ".join(f"{name}: {why}" for name, why in reasons.items()))
    return [one for one in chosen if one.name not in reasons], reasons
