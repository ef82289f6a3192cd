"""Run the comparisons of the ladder of agreement, in order."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from pymobilenet.backends import backend, checks
from pymobilenet.backends.base import Backend
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.data import Dataset
from pymobilenet.errors import ConfigError
from pymobilenet.parity.arbiter import arbitrate_curves
from pymobilenet.parity.compare_scenario import compare_live, compare_programs
from pymobilenet.parity.curves import free_curves, free_losses, with_envelope
from pymobilenet.parity.floors import program
from pymobilenet.parity.handover import AFTER, BEFORE, HANDOVERS, hand_over, optimizer_name
from pymobilenet.parity.lockstep import lockstep
from pymobilenet.parity.observe import observe
from pymobilenet.parity.progress import Progress, no_progress
from pymobilenet.parity.recording import (
    CURVE_RECIPES,
    CURVE_STEPS,
    Recording,
    check_inputs,
    recording_images,
    subsample,
)
from pymobilenet.parity.reference import compute_reference
from pymobilenet.parity.report import ParityReport
from pymobilenet.parity.scenario import STANDARD_CONFIGS, WORKING_RECIPES, Scenario, resized
from pymobilenet.parity.tolerances import FIRST_DRAWS
from pymobilenet.training import Batches
from pymobilenet.weights import initial_state

QUICK_STEPS = 5
"""Steps of each run of level 4 by default."""


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
