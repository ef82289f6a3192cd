"""Faults in the source of MobileNets.jl; see `julia_faults.jl`."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np

from parity import source_faults
from parity.optimizer_faults import judge_optimizer
from parity.outcomes import NO_EFFECT, RAISES, Outcome
from pymobilenet import backend
from pymobilenet.parity import compare
from pymobilenet.parity.diff.model_participant import ModelParticipant
from pymobilenet.parity.scenario import start_state

GROUP = "source of the Julia backend"
KNOWN = {
    "affine: var[c] + eps -> var[c]": "eps of a norm",
    "update_running_statistics!: count / (count - 1) -> count": "",
}


def julia_faults(kind):
    """The faults of models or of optimizers, as Julia objects."""
    main = backend("julia").main
    if not hasattr(main, "SourceFaults"):
        main.include(str(Path(__file__).with_suffix(".jl")))
    space = main.SourceFaults
    return list(space.model_faults() if kind == "models" else space.optimizer_faults())


def title(fault):
    return f"{fault.words}"


@contextmanager
def planted(fault):
    space = backend("julia").main.SourceFaults
    space.plant(fault)
    try:
        yield
    finally:
        space.restore(fault)


def _model(family):
    config = source_faults.CONFIGS[family]
    state = start_state(config, 0, "float64")
    return ModelParticipant(backend("julia").from_state(config, state), "Julia")


def judge_model(fault, number, baselines):
    """As `source_faults.judge`."""
    families = list(source_faults.CONFIGS)
    families = families[number % 3 :] + families[: number % 3]
    name, operator = title(fault), str(fault.operator)
    images, labels = source_faults.images(), source_faults.LABELS
    for family in families:
        if family not in baselines:
            baselines[family] = source_faults.run(_model(family))
        reference = source_faults.recording("torch", family)
        try:
            with planted(fault), np.errstate(all="ignore"):
                second = source_faults.Remembered(_model(family))
                report = compare(reference, second, inputs=images, labels=labels)
        except Exception as error:  # any that a wrong program raises
            return Outcome(name, GROUP, operator, RAISES, words=f"{error!s:.200}")
        place = source_faults.first_change(second.values, baselines[family])
        if place is not None:
            return source_faults.outcome_of(
                name, GROUP, operator, family, report, place, KNOWN.get(name, "")
            )
    return Outcome(name, GROUP, operator, NO_EFFECT)


def judge_julia_optimizer(fault):
    return judge_optimizer("Julia", title(fault), str(fault.operator), lambda: planted(fault))
