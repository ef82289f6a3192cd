"""Pairs of models that are truly the same: `compare` must accuse none of them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from parity import classic_nets
from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.parity.diff import (
    compare,
    compare_optimizers,
    flux_optimizer,
    participant,
    port_weights,
    torch_optimizer,
)
from pymobilenet.parity.diff.model_participant import ModelParticipant
from pymobilenet.parity.scenario import start_state

SEEDS = range(5)
DTYPES = ("float64", "float32")
SIZES = ((33, 47), (32, 32), (35, 64), (32, 33), (48, 37))
"""Odd and even, square and not."""

NET = {"width_mult": 0.125, "resolution": 32, "num_classes": 7}
CONFIGS = {
    "v1": MobileNetConfig("v1", **NET, stem_stride=1),
    "v1, keras padding, relu": MobileNetConfig("v1", **NET, padding="keras", activation="relu"),
    "v1_bottleneck": MobileNetConfig("v1_bottleneck", resolution=32, num_classes=7, stem_stride=1),
    "v2": MobileNetConfig("v2", **NET, stem_stride=1),
}


@dataclass(frozen=True)
class HonestPair:
    """A pair that is the same, and the comparison of it, which returns a report."""

    name: str
    group: str
    compare: Callable


def torch_pairs():
    """Pairs that need no Julia."""
    for name, seed in product(CONFIGS, SEEDS):
        for dtype in DTYPES:
            for layout in ("channels_last", "the same again"):
                yield HonestPair(
                    f"{name}, {layout}, {dtype}, seed {seed}",
                    "MobileNets, torch and torch",
                    lambda args=(name, seed, dtype, layout): _layouts(*args),
                )
        yield HonestPair(
            f"{name}, seed {seed}",
            "MobileNets, torch and NumPy",
            lambda args=(name, seed): _own(*args, "float64", ("torch", "numpy")),
        )
    for name, seed, dtype in product(classic_nets.NETS, SEEDS, DTYPES):
        yield HonestPair(
            f"{name}, {dtype}, seed {seed}",
            "other nets, torch and torch",
            lambda args=(name, seed, dtype): _classic_layouts(*args),
        )
    for name, dtype in product(OPTIMIZERS, DTYPES):
        yield HonestPair(
            f"{name}, {dtype}",
            "optimizers, torch and NumPy",
            lambda args=(name, dtype): _optimizers(*args),
        )


def julia_pairs(main):
    """Pairs of torch and Julia; `main` is Julia's module Main."""
    for name, seed, dtype in product(CONFIGS, SEEDS, DTYPES):
        for kind in ("Flux chain", "own kernels"):
            yield HonestPair(
                f"{name}, {kind}, {dtype}, seed {seed}",
                "MobileNets, torch and Julia",
                lambda args=(name, seed, dtype, kind): _with_julia(*args),
            )
    for name, seed, dtype in product(classic_nets.NETS, SEEDS, DTYPES):
        yield HonestPair(
            f"{name}, {dtype}, seed {seed}",
            "other nets, torch and Flux",
            lambda args=(name, seed, dtype): _classic_in_flux(*args, main),
        )
    for name, dtype in product(OPTIMISERS, DTYPES):
        yield HonestPair(
            f"{name}, {dtype}",
            "optimizers, torch and Optimisers",
            lambda args=(name, dtype): _optimisers(*args, main),
        )


def _images(config, seed, count=4):
    size = SIZES[seed % len(SIZES)]
    return np.random.default_rng(seed).standard_normal((count, config.in_channels, *size))


def _labels(config, seed, count=4):
    return np.random.default_rng(seed).integers(0, config.num_classes, count)


def _model(name, config, seed, dtype):
    return backend(name).from_state(config, start_state(config, seed, dtype))


def _compare(models, config, seed, dtype):
    images, labels = _images(config, seed), _labels(config, seed)
    return compare(*models, inputs=images, labels=labels, dtype=dtype)


def _layouts(name, seed, dtype, layout):
    config = CONFIGS[name]
    first, second = (_model("torch", config, seed, dtype).module for _ in range(2))
    if layout == "channels_last":
        second.to(memory_format=torch.channels_last)
    return _compare((first, second), config, seed, dtype)


def _own(name, seed, dtype, backends):
    config = CONFIGS[name]
    models = [_model(each, config, seed, dtype) for each in backends]
    return _compare(models, config, seed, dtype)


def _with_julia(name, seed, dtype, kind):
    config = CONFIGS[name]
    first, second = (_model(each, config, seed, dtype) for each in ("torch", "julia"))
    if kind == "own kernels":
        second = ModelParticipant(second, "Julia")
    return _compare((first, second), config, seed, dtype)


def _compare_classic(name, seed, dtype, first, second):
    images, labels = classic_nets.images(name, seed), classic_nets.labels(seed)
    return compare(first, second, inputs=images, labels=labels, dtype=dtype)


def _classic_layouts(name, seed, dtype):
    first, second = (classic_nets.torch_net(name, seed) for _ in range(2))
    second.to(memory_format=torch.channels_last)
    return _compare_classic(name, seed, dtype, first, second)


def _classic_in_flux(name, seed, dtype, main):
    from pymobilenet.backends.julia.tracing import FluxParticipant

    first = participant(classic_nets.torch_net(name, seed), "torch")
    second = FluxParticipant(classic_nets.flux_net(name, main), "Flux")
    port_weights(first, second, classic_nets.images(name, seed))
    return _compare_classic(name, seed, dtype, first, second)


OPTIMIZERS = {
    "SGD": (lambda p: torch.optim.SGD(p, 0.1, 0.9), TrainConfig()),
    "Nesterov": (lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True), TrainConfig(nesterov=True)),
    "SGD, decay": (
        lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01),
        TrainConfig(weight_decay=0.01),
    ),
    "Adam": (lambda p: torch.optim.Adam(p, 1e-3), TrainConfig("adam", rate=1e-3)),
    "AdamW": (
        lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1),
        TrainConfig("adamw", rate=1e-3, weight_decay=0.1),
    ),
    "RMSprop": (
        lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9),
        TrainConfig("rmsprop", rate=1e-3),
    ),
}

OPTIMISERS = {
    "Descent": (lambda p: torch.optim.SGD(p, 0.1), 0.1),
    "Momentum(1, rho) and Descent": (lambda p: torch.optim.SGD(p, 0.1, 0.9), None),
    "Adam": (lambda p: torch.optim.Adam(p, 1e-3), 1e-3),
    "AdamW": (lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1), 1e-3),
    "coupled decay": (lambda p: torch.optim.Adam(p, 1e-3, weight_decay=0.1), 1e-3),
    "RMSProp": (lambda p: torch.optim.RMSprop(p, 1e-3, alpha=0.9), 1e-3),
}
"""Name of a rule in `optimizer_rules.jl` -> the optimizer of torch, and the rate to set."""


def optimizer_rule(name, main):
    if not hasattr(main, "optimizer_rule"):
        main.include(str(Path(__file__).with_name("optimizer_rules.jl")))
    return main.optimizer_rule(name)


def _optimizers(name, dtype):
    build, config = OPTIMIZERS[name]
    return compare_optimizers(torch_optimizer(build), config, dtype)


def _optimisers(name, dtype, main):
    build, rate = OPTIMISERS[name]
    rule = flux_optimizer(optimizer_rule(name, main), rate)
    return compare_optimizers(torch_optimizer(build), rule, dtype)
