"""Compare optimizers of any framework on the same gradients, step by step, and say what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pymobilenet.backends.numpy_optimizers import UPDATE_RULES, apply_decay, clip_gradients
from pymobilenet.backends.optimizer_run import (
    Arrays,
    OptimizerForm,
    OptimizerRun,
    OptimizerSteps,
)
from pymobilenet.config import TrainConfig
from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff.diagnosis import MIN_IMPROVEMENT, known
from pymobilenet.parity.diff.fault import Fault
from pymobilenet.parity.diff.optimizer_forms import compute_steps
from pymobilenet.parity.diff.optimizer_result import OptimizerReport, OptimizerRow
from pymobilenet.parity.diff.optimizer_variants import OPTIMIZER_VARIANTS
from pymobilenet.parity.floors import min_floor
from pymobilenet.parity.tolerances import DRAWS, MAX_RATIO
from pymobilenet.training import rate_at
from pymobilenet.weights.perturb import distance, move_ulps

STEPS = 6
FACTORS = (1.0, 1.0, 0.5, 0.5, 0.1, 0.2)
"""What a constant rate is multiplied by at each step: some differences show only if it changes."""

SHAPES = {"conv.weight": (6, 4, 3, 3), "norm.weight": (6,), "dense.weight": (5, 6)}
SCALES = {"conv.weight": 1.0, "norm.weight": 0.1, "dense.weight": 3.0}
"""Of the gradients, so that a limit of each norm is not one of all together."""


class ConfigOptimizer(OptimizerRun):
    """The optimizer and the schedule of a `TrainConfig`, by the formulas of the NumPy backend."""

    def __init__(self, config: TrainConfig, name: str) -> None:
        self.name, self._config = name, config
        self.has_schedule = config.schedule != "constant" or config.warmup_steps > 0
        self.form = _form_of(config)

    def run(
        self, parameters: Arrays, gradients: Sequence[Arrays], factors: Sequence[float]
    ) -> OptimizerSteps:
        """Take a step for each of the gradients; see `OptimizerRun.run`."""
        config, values = self._config, dict(parameters)
        moments = {
            name: tuple(np.full(v.shape, config.start_of(slot)) for slot in config.moments)
            for name, v in values.items()
        }
        results, rates = [], []
        for step, (gradient, factor) in enumerate(zip(gradients, factors, strict=True)):
            rates.append(rate_at(config, step) * factor)
            for name, grad in clip_gradients(dict(gradient), config.clip_norm).items():
                value, grad = apply_decay(config, values[name], grad, rates[-1])
                values[name], moments[name] = UPDATE_RULES[config.optimizer](
                    config, value, grad, moments[name], rates[-1], step + 1
                )
            results.append(dict(values))
        return OptimizerSteps(results, rates)


def _form_of(config: TrainConfig) -> OptimizerForm | None:
    if config.initial_square_avg:
        return None
    is_tensorflow = config.optimizer == "rmsprop_tf"
    rule = {"adamw": "adam", "rmsprop_tf": "rmsprop"}.get(config.optimizer, config.optimizer)
    return OptimizerForm(
        rule,
        momentum=config.momentum,
        nesterov="gradient" if config.nesterov else "no",
        is_rate_inside=is_tensorflow,
        beta1=config.beta1,
        beta2=config.beta2,
        alpha=config.alpha,
        eps=config.eps,
        eps_place="inside" if is_tensorflow else "outside",
        decay=config.weight_decay,
        decay_form="decoupled" if config.optimizer == "adamw" else "coupled",
        decays_vectors=config.decay_all,
        clip_norm=config.clip_norm,
    )


def torch_optimizer(
    build: Callable[[list], Any], clip_norm: float = 0.0, name: str = "torch"
) -> OptimizerRun:
    """Return an optimizer of torch for `compare_optimizers`.

    Args:
        build: Maps a list of parameters to a ``torch.optim.Optimizer``, or to an optimizer and a
            scheduler, which is advanced after each step.
        clip_norm: If not 0, gradients are limited by ``torch.nn.utils.clip_grad_norm_``.
        name: How reports call it.

    Raises:
        ConfigError: `build` returns something else.
    """
    from pymobilenet.backends.torch.optimizer_run import TorchOptimizer

    return TorchOptimizer(build, clip_norm, name)


def flux_optimizer(rule: Any, rate: float | None, name: str = "Flux") -> OptimizerRun:
    """Return a rule of Optimisers.jl for `compare_optimizers`.

    Args:
        rule: A Julia object, or text ``file.jl:function``: a function without arguments.
        rate: The rate of the rule, which each step sets by ``Optimisers.adjust!``; None leaves the
            rule as it is, and the rates of both optimizers constant.
        name: How reports call it.

    Raises:
        ConfigError: There is no such file.
        BackendUnavailable: Julia is not available.
    """
    from pymobilenet.backends.julia.optimizer_run import FluxOptimizer

    if isinstance(rule, str):
        return FluxOptimizer.from_file(rule, rate, name)
    return FluxOptimizer(rule, rate, name)


def compare_optimizers(first: Any, second: Any, dtype: str = "float64") -> OptimizerReport:
    """Compare two optimizers on the same parameters and gradients.

    Gradients are random and do not depend on the parameters, so that no error grows. A constant
    rate is changed at some steps, the same way for both, unless one of them has a schedule.

    Args:
        first: `torch_optimizer`, `flux_optimizer`, a `TrainConfig`, or any `OptimizerRun`.
        second: The other. If the first has a known formula, the one that gives the second's
            steps is looked for.
        dtype: float64 or float32.

    Returns:
        Verdict, the first step and parameter that differ, and the known differences.

    Raises:
        ConfigError: An optimizer is of another kind.

    Examples:
        >>> import torch
        >>> adam = torch_optimizer(lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.1))
        >>> adamw = torch_optimizer(lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1))
        >>> [fault.name for fault in compare_optimizers(adam, adamw).faults]
        ['coupled weight decay']
    """
    runs = [_optimizer_run(each) for each in (first, second)]
    if runs[0].name == runs[1].name:
        for number, run in enumerate(runs, 1):
            run.name = f"{run.name} ({number})"
    factors = (1.0,) * STEPS if any(run.has_schedule for run in runs) else FACTORS
    parameters, gradients = _inputs(dtype)
    steps = [run.run(parameters, gradients, factors) for run in runs]
    moves = [_moves(each.parameters, parameters) for each in steps]
    floors = _floors(runs[0], parameters, gradients, factors, moves[0])
    rows = tuple(
        OptimizerRow(step, name, distance(moves[1][step][name], value), floors[step][name])
        for step, expected in enumerate(moves[0])
        for name, value in expected.items()
    )
    report = OptimizerReport(runs[0].name, runs[1].name, rows, ())
    if report.passed or runs[0].form is None:
        return report
    floor = max(row.floor for row in rows)
    faults = _diagnose(runs, steps, parameters, gradients, floor)
    place = f"step {report.first_divergence.step}"  # type: ignore[union-attr]  # it has not passed
    found = tuple(Fault(None, None, diagnosis=known(*each), place=place) for each in faults)
    return OptimizerReport(report.first, report.second, rows, found)


def _optimizer_run(value: Any) -> OptimizerRun:
    if isinstance(value, OptimizerRun):
        return value
    if isinstance(value, TrainConfig):
        return ConfigOptimizer(value, f"TrainConfig {value.optimizer}")
    raise ConfigError(
        "an optimizer must be torch_optimizer(...), flux_optimizer(...), a TrainConfig or an "
        f"OptimizerRun. Received: {type(value).__name__}"
    )


def _inputs(dtype: str) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    rng = np.random.default_rng(0)

    def draw(scales: dict[str, float]) -> dict[str, np.ndarray]:
        return {
            name: (scales[name] * rng.standard_normal(shape)).astype(dtype)
            for name, shape in SHAPES.items()
        }

    return draw(dict.fromkeys(SHAPES, 1.0)), [draw(SCALES) for _ in range(STEPS)]


def _moves(steps: Sequence[Arrays], start: Arrays) -> list[dict[str, np.ndarray]]:
    """Return how far each parameter has moved after each step, in float64."""
    return [
        {name: np.asarray(value, np.float64) - start[name] for name, value in each.items()}
        for each in steps
    ]


def _floors(
    run: OptimizerRun,
    parameters: Arrays,
    gradients: Sequence[Arrays],
    factors: Sequence[float],
    moves: Sequence[Arrays],
) -> list[dict[str, float]]:
    """Measure how much rounding alone changes each row."""
    dtype = next(iter(parameters.values())).dtype
    floors = []
    for each in moves:
        # a move is the difference of two parameters, which rounds as they do
        lost = {n: np.linalg.norm(parameters[n]) / np.linalg.norm(v) for n, v in each.items()}
        floors.append({n: min_floor(dtype) * max(1.0, float(lost[n])) for n in each})
    for draw in range(DRAWS):
        moved = [
            {
                name: move_ulps(value, draw, index)
                for index, (name, value) in enumerate(each.items())
            }
            for each in (parameters, *gradients)
        ]
        drawn = _moves(run.run(moved[0], moved[1:], factors).parameters, moved[0])
        for step, each in enumerate(drawn):
            for name, value in each.items():
                floors[step][name] = max(floors[step][name], distance(value, moves[step][name]))
    return floors


def _diagnose(
    runs: Sequence[OptimizerRun],
    steps: Sequence[OptimizerSteps],
    parameters: Arrays,
    gradients: Sequence[Arrays],
    floor: float,
) -> list[tuple[str, str]]:
    """Return the one or two differences with which the first formula gives the second's steps."""
    form, other, rates = runs[0].form, runs[1].form, steps[0].rates
    assert form is not None
    moves = [_moves(each.parameters, parameters) for each in steps]

    def error(variant: OptimizerForm, expected: Sequence[Arrays], rates: Sequence[float]) -> float:
        computed = _moves(list(compute_steps(variant, parameters, gradients, rates)), parameters)
        return max(
            distance(value[name], expected[step][name])
            for step, value in enumerate(computed)
            for name in value
        )

    if error(form, moves[0], rates) > MAX_RATIO * floor:
        return []  # the first is not what it says
    limit = min(MAX_RATIO * floor, error(form, moves[1], rates) / MIN_IMPROVEMENT)
    singles = list(_variants(form, other))
    for name, what, variant in singles:
        if error(variant, moves[1], rates) <= limit:
            return [(name, what)]
    if steps[1].rates and error(form, moves[1], steps[1].rates) <= limit:
        own, received = (", ".join(f"{rate:g}" for rate in each.rates) for each in steps)
        return [("constants of an optimizer", f"the rates are {received} instead of {own}")]
    for name, what, variant in singles:
        for second_name, second_what, both in _variants(variant, other):
            if second_name != name and error(both, moves[1], rates) <= limit:
                return [(name, what), (second_name, second_what)]
    return []


def _variants(
    form: OptimizerForm, other: OptimizerForm | None
) -> Iterator[tuple[str, str, OptimizerForm]]:
    for name, variants in OPTIMIZER_VARIANTS.items():
        for what, variant in variants(form, other):
            yield name, what, variant
