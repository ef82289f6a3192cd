"""Run the comparisons of the ladder of agreement, in order."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

from pymobilenet.backends import backend, checks
from pymobilenet.backends.base import Backend, Model
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.data import Dataset
from pymobilenet.errors import ConfigError
from pymobilenet.parity.accuracy import activation_accuracies
from pymobilenet.parity.arbiter import arbitrate_curves
from pymobilenet.parity.curves import free_curves, free_losses, with_envelope
from pymobilenet.parity.figures import activation_errors, median_gradient, row_error
from pymobilenet.parity.floors import Floors, Program, floors, program, with_unmasked
from pymobilenet.parity.handover import AFTER, BEFORE, HANDOVERS, hand_over, optimizer_name
from pymobilenet.parity.judge import Row, flips, is_doubtful, unjudged_rows, verdicts, with_floors
from pymobilenet.parity.kinks import exercised_kinks
from pymobilenet.parity.lockstep import lockstep
from pymobilenet.parity.observe import Observations, observe
from pymobilenet.parity.recording import (
    CURVE_RECIPES,
    CURVE_STEPS,
    Recording,
    check_inputs,
    recording_images,
    subsample,
)
from pymobilenet.parity.reference import Reference, compute_reference
from pymobilenet.parity.report import ParityReport, ScenarioResult
from pymobilenet.parity.scenario import STANDARD_CONFIGS, WORKING_RECIPES, Scenario, resized
from pymobilenet.parity.tolerances import FIRST_DRAWS
from pymobilenet.training import Batches
from pymobilenet.weights import initial_state

QUICK_STEPS = 5
"""Steps of each run of level 4 by default."""

Progress = Callable[[str, int], Callable[[], None]]
"""Receives the title of a part of the work and its number of steps, and returns the function to
call after each step."""


def no_progress(_title: str, _total: int) -> Callable[[], None]:
    """Return a function that does nothing: the default `Progress`."""
    return lambda: None


def run_parity(
    names: Sequence[str | Backend],
    data: Dataset,
    steps: int = QUICK_STEPS,
    dtypes: Iterable[str] = ("float64", "float32"),
    configs: Sequence[MobileNetConfig] = STANDARD_CONFIGS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> ParityReport:
    """Compare two backends, level by level (see ``docs/agreement.md``).

    Levels 0 to 3 are compared for every config and dtype. Level 4 (lockstep with SGD and Adam, a
    calm and a free run) and level 6 (each recipe of `HANDOVERS` in both directions) are compared in
    float64 for the first config. torch uses one thread: the nets and batches are small.

    Args:
        names: Two backends or their names, such as ``("torch", "julia")``. The first is the leader:
            floors and envelopes are measured with it.
        data: Training images, such as CIFAR-100's. They are brought to `scenario.IMAGE_SIZE`.
        steps: Steps of each run of level 4; with 0, levels 4 and 6 are left out.
        dtypes: float64, float32 or both.
        configs: The nets; levels 4 and 6 use the first.
        seed: Of weights and batches.
        progress: Is called at the start of each part of the work.

    Returns:
        The verdict of each level, with the error and the floor of every tensor.

    Raises:
        ConfigError: There are not two different backends, or a dtype is unknown or not supported
            by a backend.
        BackendUnavailable: A backend is not installed.
    """
    kinds = [checks.dtype(kind).name for kind in dtypes]
    pair = [backend(one) if isinstance(one, str) else one for one in names]
    received = [one.name for one in pair]
    if len(pair) != 2 or received[0] == received[1]:
        raise ConfigError(
            f"backends must be the names of two different ones. Received: {', '.join(received)}"
        )
    for one, kind in itertools.product(pair, kinds):
        if not one.supports_dtype(kind):
            raise ConfigError(
                f"dtype must be supported by both backends, and {one.name} does not support it. "
                f"Received: {kind}"
            )
    with pair[0].few_threads(), pair[1].few_threads():
        report = ParityReport.of(pair, data, seed)
        for config in configs:
            for dtype in kinds:
                scenario = Scenario(config, dtype, seed=seed)
                advance = progress(f"levels 0-3, {scenario.name}", 1)
                report.scenarios.append(compare_live(scenario, pair, data))
                advance()
        if steps:
            images = resized(data)
            _level4(report, pair, images, steps, seed, configs[0], progress)
            _level6(report, pair, images, seed, configs[0], progress)
    return report


def compare_live(scenario: Scenario, pair: Sequence[Backend], data: Dataset) -> ScenarioResult:
    """Compare levels 0 to 3 of one scenario between two backends.

    Args:
        scenario: What to run.
        pair: The leader and the follower.
        data: Training images.

    Returns:
        The compared quantities and the verdict.
    """
    reference = compute_reference(scenario, data)
    models = {b.name: b.build(scenario.config, dtype=scenario.dtype) for b in pair}
    result = compare_models(reference, models)
    result.compute_options = {name: model.compute_options for name, model in models.items()}
    return result


def compare_models(reference: Reference, models: Mapping[str, Model]) -> ScenarioResult:
    """Compare levels 0 to 3 of two models.

    Args:
        reference: The oracle's run of the scenario.
        models: Name -> model; the first is the leader.

    Returns:
        The compared quantities and the verdict.
    """
    inputs = reference.inputs
    by_name = {name: observe(model, inputs) for name, model in models.items()}
    programs = [program(model, inputs, by_name[name]) for name, model in models.items()]
    return compare_programs(reference, by_name, programs)


def replay(
    recordings: Sequence[Recording], name: str = "torch", progress: Progress = no_progress
) -> ParityReport:
    """Compare a backend with recordings of Julia, on the images they were made with.

    Lockstep and hand-over require a live backend and are left out. The recorded curves are
    compared.

    Args:
        recordings: Of `recording.read_recordings`.
        name: The backend.
        progress: Is called at the start of each part of the work.

    Returns:
        The report.

    Raises:
        WeightsError: A recording was made with other inputs.
    """
    live = backend(name)
    with live.few_threads():
        return _replay(recordings, live, progress)


def _replay(recordings: Sequence[Recording], live: Backend, progress: Progress) -> ParityReport:
    data, name = recording_images(), live.name
    report = ParityReport.of([live], data, recordings[0].scenario.seed, recordings[0])
    for recording in recordings:
        scenario = recording.scenario
        advance = progress(f"levels 0-3, {scenario.name}", 1)
        reference = compute_reference(scenario, data)
        inputs = reference.inputs
        check_inputs(recording, inputs)
        model = live.build(scenario.config, dtype=scenario.dtype)
        by_name = {name: subsample(observe(model, inputs)), "julia": recording.observations}
        programs = [program(model, inputs, by_name[name], transform=subsample)]
        report.scenarios.append(compare_programs(reference, by_name, programs, subsample))
        advance()
        for title, recorded_losses in recording.curves.items():
            train = CURVE_RECIPES[title]
            images = resized(data, scenario.image_size)
            batches = Batches(images, train, scenario.config, scenario.dtype)
            label = _title(title, train, scenario)
            advance = progress(f"level 4, {label}", (1 + FIRST_DRAWS) * CURVE_STEPS)
            losses = free_losses(model, inputs.state, batches, CURVE_STEPS, advance=advance)
            both = (losses, recorded_losses)
            curves = with_envelope(
                label, (name, "julia"), both, model, inputs.state, batches, advance=advance
            )
            report.curves.append(arbitrate_curves(curves, inputs.state, batches))
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
    for optimizer in WORKING_RECIPES:
        train = dataclasses.replace(optimizer, seed=seed)
        batches = Batches(data, train, config, "float64")
        advance = progress(f"level 4, lockstep, {train.optimizer} {train.rate:g}", steps)
        leader.set_state(initial_state(config, seed, "float64"))
        report.lockstep.append(lockstep(leader, follower, replicas, batches, steps, names, advance))
    for title, recipe in CURVE_RECIPES.items():
        train = dataclasses.replace(recipe, seed=seed)
        batches = Batches(data, train, config, "float64")
        start = initial_state(config, seed, "float64")
        label = _title(title, train, scenario)
        advance = progress(f"level 4, {label}", (2 + FIRST_DRAWS) * steps)
        models = (leader, follower)
        curves = free_curves(label, names, models, start, batches, steps, advance)
        report.curves.append(arbitrate_curves(curves, start, batches))


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
            names = (first.name, second.name)
            title = f"level 6, {first.name} to {second.name}, {optimizer_name(train)}"
            advance = progress(title, BEFORE + AFTER)
            report.handovers.append(
                hand_over(leader, follower, replicas, data, train, start, names, advance)
            )


def _title(title: str, train: TrainConfig, scenario: Scenario) -> str:
    return f"{title}, {train.optimizer} {train.rate:g}, batch {train.batch_size}, {scenario.name}"


def compare_programs(
    reference: Reference,
    by_name: dict[str, Observations],
    programs: Sequence[Program],
    transform: Callable[[Observations], Observations] = lambda observations: observations,
) -> ScenarioResult:
    """Compare levels 0 to 3 of two programs with the oracle.

    Args:
        reference: The oracle's run of the scenario.
        by_name: Name -> observations, already transformed; the leader's first.
        programs: The leader, and others that may widen floors.
        transform: Is applied to the oracle's and torch's observations before they are compared.

    Returns:
        The compared quantities and the verdict.
    """
    scenario, oracle = reference.scenario, transform(reference.observations)

    compared = unjudged_rows(oracle, by_name)

    def rows_by(floors: Floors) -> list[Row]:
        return with_floors(compared, with_unmasked(floors))

    def doubtful(floors: Floors) -> bool:
        return is_doubtful(rows_by(floors))

    leader, *others = programs
    rows = rows_by(floors(leader, others, scenario.dtype, doubtful))
    first, second = by_name
    pairs = {name: (observations, oracle) for name, observations in by_name.items()}
    pairs[f"{second} against {first}"] = (by_name[second], by_name[first])
    activations = {name: activation_errors(*two) for name, two in pairs.items()}
    accuracies = activation_accuracies(
        reference, {name: activations[name] for name in by_name}, transform
    )
    if accuracies:
        activations["torch channels_last"] = dict(accuracies[0].channels_last)
    return ScenarioResult(
        scenario=scenario,
        verdicts=verdicts(scenario.name, rows),
        flips={name: flips(observations) for name, observations in by_name.items()},
        logits={name: row_error(*two) for name, two in pairs.items()},
        gradients={name: median_gradient(*two) for name, two in pairs.items()},
        activations=activations,
        accuracies=accuracies,
        kinks=exercised_kinks(
            {
                key.name: values
                for key, values in reference.observations.items()
                if key.quantity == "train"
            },
            scenario.config.activation,
        ),
    )
