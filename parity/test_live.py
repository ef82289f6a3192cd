"""The ladder between torch and a live Julia, and the recordings against a fresh one."""

import dataclasses

import pytest

from pymobilenet import MobileNetConfig, backend
from pymobilenet.data import synthetic
from pymobilenet.parity import read_recordings, run_parity
from pymobilenet.parity.floors import floors, program, with_unmasked
from pymobilenet.parity.judge import compare_observations, is_doubtful, verdicts
from pymobilenet.parity.observe import observe
from pymobilenet.parity.recording import recording_images, subsample
from pymobilenet.parity.reference import compute_reference

pytestmark = pytest.mark.julia

SMALL = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=20, stem_stride=2)
RELU = dataclasses.replace(SMALL, activation="relu", norm_eps=1e-3, norm_momentum=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("one_handover")
@pytest.mark.parametrize("names", [("torch", "julia"), ("julia", "torch")], ids="-".join)
def test_torch_and_julia_agree_on_every_level_in_either_order(names):
    report = run_parity(names, synthetic(512, num_classes=20), steps=3, configs=[SMALL])
    assert report.julia.startswith("live, Julia 1.")
    assert report.passed, report.first_divergence
    assert len(report.lockstep) == 2
    assert len(report.curves) == 2


def test_julia_and_the_oracle_agree_for_relu_and_another_norm():
    report = run_parity(
        ("julia", "numpy"), synthetic(512, num_classes=20), 0, ["float64"], configs=[RELU]
    )
    assert report.passed, report.first_divergence


@pytest.mark.parametrize("recording", read_recordings(), ids=lambda one: one.scenario.name)
def test_a_recording_is_what_julia_computes_today(recording):
    scenario = recording.scenario
    reference = compute_reference(scenario, recording_images())
    julia = backend("julia").build(scenario.config, dtype=scenario.dtype)
    fresh = subsample(observe(julia, reference.inputs))
    torch = backend("torch").build(scenario.config, dtype=scenario.dtype)
    base = subsample(observe(torch, reference.inputs))
    leader = program(torch, reference.inputs, base, transform=subsample)

    def rows_by(allowed):
        by_name = {"fresh": fresh, "recorded": recording.observations}
        return compare_observations(
            subsample(reference.observations), by_name, with_unmasked(allowed)
        )

    allowed = floors(leader, [], scenario.dtype, lambda allowed: is_doubtful(rows_by(allowed)))
    assert all(verdict.passed for verdict in verdicts(scenario.name, rows_by(allowed)))
