"""Level 7, hybrids: the front of one backend's model and the back of another's, at every cut.

Each hybrid is compared with the oracle in outputs, gradients and first steps of training, and then,
in lockstep, with the first backend's model. Floors are those of the first backend's model; they are
measured once for all hybrids. A difference that begins at a cut is where the framework matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pymobilenet.backends.base import Backend, Model
from pymobilenet.backends.part import block_count, split_layers
from pymobilenet.config import MobileNetConfig
from pymobilenet.data import Dataset
from pymobilenet.parity.floors import Floors, Program, floors, program, with_unmasked
from pymobilenet.parity.judge import Row, Verdict, is_doubtful, unjudged_rows, verdicts, with_floors
from pymobilenet.parity.observe import (
    Observations,
    activations_by_micro_batch,
    masks_of_activations,
    observe,
)
from pymobilenet.parity.progress import Progress, no_progress
from pymobilenet.parity.reference import Reference, compute_reference
from pymobilenet.parity.report import ParityReport
from pymobilenet.parity.scenario import WORKING_RECIPES, Scenario, resized, start_state
from pymobilenet.parity.steps import StepInputs, compare_step, take_step
from pymobilenet.training import Batches

STEPS = 50
"""Training steps that each hybrid takes in lockstep with the first backend's model."""

STEPS_TITLE = "lockstep"


@dataclass(frozen=True)
class CutResult:
    """The comparison of one hybrid.

    Attributes:
        first: The backend that runs the stem and the first `cut` blocks.
        second: The backend that runs the rest.
        cut: The number of blocks in front of the cut.
        dtype: float32 or float64.
        verdicts: Of each level, and of the steps in lockstep.
    """

    first: str
    second: str
    cut: int
    dtype: str
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether all levels agree."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def ratios(self) -> dict[str, float]:
        """Title of a level -> its largest error in floors; level 0 has none."""
        return {each.title: each.worst.ratio for each in self.verdicts if each.level}


class _Leader:
    """The first backend's model in a scenario, whose draws are run once."""

    def __init__(self, backend: Backend, reference: Reference) -> None:
        scenario, self.reference = reference.scenario, reference
        model = backend.build(scenario.config, dtype=scenario.dtype)
        self.program = program(model, reference.inputs, observe(model, reference.inputs))

    def rows(self, name: str, model: Model) -> list[Row]:
        """Compare a model with the oracle, by the floors of the leader."""
        inputs, dtype = self.reference.inputs, self.reference.scenario.dtype
        observations = observe(model, inputs)

        compared = unjudged_rows(self.reference.observations, {name: observations})

        def rows_by(measured: Floors) -> list[Row]:
            return with_floors(compared, with_unmasked(measured))

        others: Iterable[Program] = (program(model, inputs, observations),)
        measured = floors(self.program, others, dtype, lambda found: is_doubtful(rows_by(found)))
        return rows_by(measured)


def compare_cuts(
    pair: Sequence[Backend],
    scenario: Scenario,
    data: Dataset,
    cuts: Sequence[int] | None = None,
    steps: int = STEPS,
    advance: Callable[[], None] = lambda: None,
) -> list[CutResult]:
    """Compare the hybrids of two backends at some cuts, in both orders.

    Args:
        pair: Two backends; the first is the leader.
        scenario: The net, dtype and seed.
        data: Training images.
        cuts: The cuts; default all.
        steps: Training steps in lockstep, at least 1.
        advance: Is called after each hybrid, and after each step of all.

    Returns:
        A result for each order and cut.

    Raises:
        ConfigError: A cut is behind the last block, or a backend cannot be cut.
    """
    with pair[0].few_threads(), pair[1].few_threads():
        return _compare_cuts(pair, scenario, data, cuts, steps, advance)


def _compare_cuts(
    pair: Sequence[Backend],
    scenario: Scenario,
    data: Dataset,
    cuts: Sequence[int] | None,
    steps: int,
    advance: Callable[[], None],
) -> list[CutResult]:
    from pymobilenet.backends.torch.hybrid import HybridBackend

    chosen = range(block_count(scenario.config) + 1) if cuts is None else cuts
    leader = _Leader(pair[0], compute_reference(scenario, data))
    hybrids = {
        (first.name, second.name, cut): HybridBackend(first, second, cut).build(
            scenario.config, dtype=scenario.dtype
        )
        for first, second in (pair, pair[::-1])
        for cut in chosen
    }
    levels = {}
    for key, model in hybrids.items():
        name = model.backend.name
        levels[key] = verdicts(f"{name}, {scenario.name}", leader.rows(name, model))
        advance()
    by_name = {model.backend.name: model for model in hybrids.values()}
    in_steps = lockstep_of_many(pair[0], by_name, scenario, data, steps, advance)
    return [
        CutResult(*key, scenario.dtype, (*levels[key], in_steps[model.backend.name]))
        for key, model in hybrids.items()
    ]


def lockstep_of_many(
    backend: Backend,
    followers: Mapping[str, Model],
    scenario: Scenario,
    data: Dataset,
    steps: int,
    advance: Callable[[], None],
) -> dict[str, Verdict]:
    """Let models take the steps of a leader, each from the leader's state; see `lockstep`.

    Args:
        backend: Of the leader.
        followers: Name -> model.
        scenario: The net, dtype and seed.
        data: Training images.
        steps: How many steps to take.
        advance: Is called after each step.

    Returns:
        Name -> verdict over all steps, with the worst row of each tensor.
    """
    config, dtype, train = scenario.config, scenario.dtype, WORKING_RECIPES[0]
    batches = Batches(resized(data, scenario.image_size), train, config, dtype)
    leader, replica = (backend.build(config, scenario.seed, dtype) for _ in range(2))
    leader.set_state(start_state(config, scenario.seed, dtype))
    leader.set_optimizer(train)
    worst: dict[str, dict[tuple[str, str], Row]] = {name: {} for name in followers}
    for step in range(steps):
        inputs = StepInputs(leader.get_state(), batches.at(step), train, step)
        if leader.dtype == np.float32:
            values = activations_by_micro_batch(
                leader, inputs.batch._replace(masks={}), train.accumulate
            )
            masks = masks_of_activations(values, config.activation)
            inputs = inputs._replace(batch=inputs.batch._replace(masks=inputs.batch.masks | masks))
        expected = take_step(leader, inputs)
        received: dict[str, Observations] = {
            name: take_step(model, inputs) for name, model in followers.items()
        }
        rows = compare_step(expected, received, [replica], inputs, has_failed=False)
        for name, known in worst.items():
            for row in rows:
                own = replace(row, errors={name: row.errors[name]})
                tensor = (row.key.quantity, row.key.name)
                known[tensor] = max(known.get(tensor, own), own, key=lambda each: each.ratio)
        advance()
    return {
        name: Verdict(f"{name}, {scenario.name}", 7, STEPS_TITLE, tuple(known.values()))
        for name, known in worst.items()
    }


def first_block_that_matters(
    pair: Sequence[Backend], config: MobileNetConfig, dtype: str, data: Dataset, seed: int = 0
) -> str | None:
    """Find, by bisection, the first block that differs between two backends.

    Hybrids whose front is the second backend's and whose back is the first's are compared with the
    oracle: with the block in the front they differ, without it they agree.

    Args:
        pair: Two backends; the first is taken to be right.
        config: The net.
        dtype: float32 or float64.
        data: Training images.
        seed: Of weights and batches.

    Returns:
        ``stem``, the name of a block such as ``blocks.3``, or what is behind the last block:
        ``head`` or ``classifier``; None if not even the whole second model differs.
    """
    from pymobilenet.backends.torch.hybrid import HybridBackend

    leader = _Leader(pair[0], compute_reference(Scenario(config, dtype, seed=seed), data))

    def differs(backend: Backend) -> bool:
        model = backend.build(config, dtype=dtype)
        rows = leader.rows(backend.name, model)
        return not all(verdict.passed for verdict in verdicts(backend.name, rows))

    if not differs(pair[1]):
        return None
    low, high = 0, block_count(config) + 1
    while low < high:
        cut = (low + high) // 2
        if differs(HybridBackend(pair[1], pair[0], cut)):
            high = cut
        else:
            low = cut + 1
    if low == 0:
        return "stem"
    if low <= block_count(config):
        return f"blocks.{low - 1}"
    _, behind = split_layers(config, block_count(config))
    return behind[0].block if behind else "classifier"


def first_blocks(
    pair: Sequence[Backend],
    report: ParityReport,
    data: Dataset,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, str]:
    """Find the first block that differs in every scenario of a report that does not agree.

    Args:
        pair: The two backends of the report; the first is taken to be right.
        report: A comparison of the two.
        data: Training images.
        seed: Of weights and batches.
        progress: Is called at the start of each scenario.

    Returns:
        Name of a scenario -> see `first_block_that_matters`.
    """
    found = {}
    for result in report.scenarios:
        scenario = result.scenario
        if all(verdict.passed for verdict in result.verdicts):
            continue
        advance = progress(f"bisection, {scenario.name}", 1)
        with pair[0].few_threads(), pair[1].few_threads():
            block = first_block_that_matters(pair, scenario.config, scenario.dtype, data, seed)
        if block is not None:
            found[scenario.name] = block
        advance()
    return found
