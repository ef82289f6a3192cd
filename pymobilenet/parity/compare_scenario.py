"""Compare levels 0 to 3 of one scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pymobilenet.backends.base import Backend, Model
from pymobilenet.data import Dataset
from pymobilenet.parity.accuracy import activation_accuracies
from pymobilenet.parity.figures import activation_errors, median_gradient, row_error
from pymobilenet.parity.flips import flips
from pymobilenet.parity.floors import Floors, Program, floors, program, with_unmasked
from pymobilenet.parity.judge import Row, is_doubtful, unjudged_rows, verdicts, with_floors
from pymobilenet.parity.kinks import exercised_kinks
from pymobilenet.parity.observe import Observations, observe
from pymobilenet.parity.reference import Reference, compute_reference
from pymobilenet.parity.report import ScenarioResult
from pymobilenet.parity.scenario import Scenario


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
