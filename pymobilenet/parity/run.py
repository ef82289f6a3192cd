"""Climbing the ladder: which comparisons are made, in which order, and what becomes the report."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

from pymobilenet.backends import backend, checks
from pymobilenet.backends.base import Backend, Model
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.data import Dataset
from pymobilenet.errors import ConfigError
from pymobilenet.parity.curves import enveloped, free_curves, free_losses
from pymobilenet.parity.figures import activation_errors, median_gradient, row_error
from pymobilenet.parity.floors import FIRST_DRAWS, Floors, Program, floors, program, with_free
from pymobilenet.parity.handover import AFTER, BEFORE, HANDOVERS, hand_over
from pymobilenet.parity.judge import Row, compare, doubtful, flips, verdicts
from pymobilenet.parity.lockstep import lockstep
from pymobilenet.parity.observe import Observations, observe, observe_outputs
from pymobilenet.parity.recording import (
    CURVE_STEPS,
    CURVES,
    Recording,
    check_inputs,
    recording_images,
    thin,
)
from pymobilenet.parity.reference import Reference, reference
from pymobilenet.parity.report import ParityReport, ScenarioResult
from pymobilenet.parity.scenario import OPTIMIZERS, Scenario
from pymobilenet.training import Batches
from pymobilenet.weights import initial_state

STANDARD_CONFIGS = tuple(
    MobileNetConfig(width_mult=w, resolution=32, num_classes=100, stem_stride=s)
    for w in (0.25, 1.0)
    for s in (1, 2)
)
"""What levels 0 to 3 compare unless told otherwise."""

Progress = Callable[[str, int], Callable[[], None]]
"""Told a title and a number of ticks, gives the function to call at each advance."""


def silent(_title: str, _ticks: int) -> Callable[[], None]:
    return lambda: None


def run_parity(
    names: Sequence[str],
    data: Dataset,
    steps: int = 200,
    dtypes: Iterable[str] = ("float64", "float32"),
    configs: Sequence[MobileNetConfig] = STANDARD_CONFIGS,
    seed: int = 0,
    progress: Progress = silent,
) -> ParityReport:
    """Compare two live backends on `data`; the first of them leads.

    Levels 0 to 3 for every config and dtype, level 4 in float64 for the first config: lockstep for
    SGD and Adam, a calm and a free run, `steps` steps each (none if 0). With it level 6: each of
    `HANDOVERS` from either backend to the other.

    Raises:
        ConfigError: not two different backends; a dtype that is none, or that a backend does not
            compute in.
        BackendUnavailable: one of them cannot be had.
    """
    if len(names) != 2 or names[0] == names[1]:
        raise ConfigError(f"two different backends are compared. Received: {', '.join(names)}")
    kinds = [checks.dtype(kind).name for kind in dtypes]
    pair = [backend(name) for name in names]
    for one, kind in itertools.product(pair, kinds):
        if not one.computes(kind):
            raise ConfigError(
                f"a dtype must be one that both backends compute in, and {one.name} does not. "
                f"Received: {kind}"
            )
    report = ParityReport.of(pair, data, seed)
    for config in configs:
        for dtype in kinds:
            scenario = Scenario(config, dtype, seed=seed)
            advance = progress(scenario.name, 1)
            report.scenarios.append(live_scenario(scenario, pair, data))
            advance()
    if steps:
        _level4(report, pair, data, steps, seed, configs[0], progress)
        _level6(report, pair, data, seed, configs[0], progress)
    return report


def live_scenario(scenario: Scenario, pair: Sequence[Backend], data: Dataset) -> ScenarioResult:
    """Levels 0 to 3 of one scenario between two live backends."""
    truth = reference(scenario, data)
    models = {b.name: b.build(scenario.config, dtype=scenario.dtype) for b in pair}
    result = compare_models(truth, models)
    result.compute_options = {name: model.compute_options for name, model in models.items()}
    if scenario.dtype == "float32" and "torch" in models:
        last = backend("torch").build(
            scenario.config, dtype="float32", memory_format="channels_last"
        )
        beside = observe_outputs(last, truth.inputs, truth.masks)
        result.activations["torch channels_last"] = activation_errors(beside, truth.seen)
    return result


def compare_models(truth: Reference, models: Mapping[str, Model]) -> ScenarioResult:
    """Levels 0 to 3 of two models by name; the first of them leads."""
    seen = {name: observe(model, truth.inputs, truth.masks) for name, model in models.items()}
    programs = [
        program(model, truth.inputs, truth.masks, seen[name]) for name, model in models.items()
    ]
    return _result(truth.scenario, truth.seen, seen, programs)


def replay(
    recordings: Sequence[Recording], name: str = "torch", progress: Progress = silent
) -> ParityReport:
    """Compare the live backend `name` with recordings of Julia, on the images they were made on.

    Lockstep needs a live backend and is left out; the recorded curves are compared instead.
    """
    live = backend(name)
    data = recording_images()
    report = ParityReport.of([live], data, recordings[0].scenario.seed, recordings[0])
    for recording in recordings:
        scenario = recording.scenario
        advance = progress(f"{scenario.name}, recorded", 1)
        truth = reference(scenario, data)
        inputs, masks = truth.inputs, truth.masks
        check_inputs(recording, inputs, masks)
        model = live.build(scenario.config, dtype=scenario.dtype)
        seen = {name: thin(observe(model, inputs, masks)), "julia": recording.observations}
        programs = [program(model, inputs, masks, seen[name], keep=thin)]
        report.scenarios.append(_result(scenario, thin(truth.seen), seen, programs))
        advance()
        for title, losses in recording.curves.items():
            batches = Batches(data, CURVES[title], scenario.config, scenario.dtype)
            runs = 1 + FIRST_DRAWS
            advance = progress(f"{title}, {scenario.name}, recorded", runs * CURVE_STEPS)
            mine = free_losses(model, inputs.state, batches, CURVE_STEPS, advance=advance)
            label, both = _title(title, CURVES[title], scenario), (name, "julia")
            report.curves.append(
                enveloped(
                    label, both, (mine, losses), model, inputs.state, batches, advance=advance
                )
            )
    return report


def _level4(
    report: ParityReport,
    pair: Sequence[Backend],
    data: Dataset,
    steps: int,
    seed: int,
    config: MobileNetConfig,
    progress: Progress,
) -> None:
    names = (pair[0].name, pair[1].name)
    scenario = Scenario(config, "float64", seed=seed)
    leader, follower = (b.build(config, seed, "float64") for b in pair)
    replicas = [b.build(config, seed, "float64") for b in pair]
    for optimizer in OPTIMIZERS:
        train = dataclasses.replace(optimizer, seed=seed)
        batches = Batches(data, train, config, "float64")
        advance = progress(f"lockstep, {train.optimizer} {train.rate:g}", steps)
        leader.set_state(initial_state(config, seed, "float64"))
        report.lockstep.append(lockstep(leader, follower, replicas, batches, steps, names, advance))
    for title, recipe in CURVES.items():
        train = dataclasses.replace(recipe, seed=seed)
        batches = Batches(data, train, config, "float64")
        start = initial_state(config, seed, "float64")
        label = _title(title, train, scenario)
        advance = progress(label, (2 + FIRST_DRAWS) * steps)
        models = (leader, follower)
        report.curves.append(free_curves(label, names, models, start, batches, steps, advance))


def _level6(
    report: ParityReport,
    pair: Sequence[Backend],
    data: Dataset,
    seed: int,
    config: MobileNetConfig,
    progress: Progress,
) -> None:
    start = initial_state(config, seed, "float64")
    for first, second in (pair, pair[::-1]):
        leader, follower, *replicas = (
            b.build(config, seed, "float64") for b in (first, second, first, second)
        )
        for recipe in HANDOVERS:
            train = dataclasses.replace(recipe, seed=seed)
            advance = progress(f"hand-over, {first.name} to {second.name}", BEFORE + AFTER)
            names = (first.name, second.name)
            report.handovers.append(
                hand_over(leader, follower, replicas, data, train, start, names, advance)
            )


def _title(title: str, train: TrainConfig, scenario: Scenario) -> str:
    return f"{title}, {train.optimizer} {train.rate:g}, batch {train.batch_size}, {scenario.name}"


def _result(
    scenario: Scenario,
    truth: Observations,
    seen: dict[str, Observations],
    programs: Sequence[Program],
) -> ScenarioResult:
    """The result of a scenario; the first of the programs leads."""

    def judged(allowed: Floors) -> list[Row]:
        return compare(truth, seen, with_free(allowed))

    leader, *others = programs
    rows = judged(floors(leader, others, scenario.dtype, lambda allowed: doubtful(judged(allowed))))
    first, second = seen
    against = {name: (observations, truth) for name, observations in seen.items()}
    against[f"{second} against {first}"] = (seen[second], seen[first])
    return ScenarioResult(
        scenario=scenario,
        verdicts=verdicts(scenario.name, rows),
        flips={name: flips(observations) for name, observations in seen.items()},
        logits={name: row_error(*two) for name, two in against.items()},
        gradients={name: median_gradient(*two) for name, two in against.items()},
        activations={name: activation_errors(*two) for name, two in against.items()},
    )
