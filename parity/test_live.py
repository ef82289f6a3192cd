"""The ladder between torch and a live Julia, and the recordings against a fresh one."""

import dataclasses

import pytest

from pymobilenet import MobileNetConfig, backend
from pymobilenet.data import synthetic
from pymobilenet.parity import read_goldens, run_parity
from pymobilenet.parity.floors import floors, program, with_free
from pymobilenet.parity.judge import compare, doubtful, verdicts
from pymobilenet.parity.observe import observe
from pymobilenet.parity.recording import recording_images, thin
from pymobilenet.parity.reference import reference

pytestmark = pytest.mark.julia

SMALL = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=20, stem_stride=2)
RELU = dataclasses.replace(SMALL, activation="relu", norm_eps=1e-3, norm_momentum=0.01)


@pytest.mark.long
@pytest.mark.usefixtures("one_handover")
@pytest.mark.parametrize("names", [("torch", "julia"), ("julia", "torch")], ids="-".join)
def test_torch_and_julia_agree_on_every_level_whoever_leads(names):
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


@pytest.mark.parametrize("recording", read_goldens(), ids=lambda one: one.scenario.name)
def test_a_kept_recording_is_what_julia_gives_today(recording):
    scenario = recording.scenario
    truth = reference(scenario, recording_images())
    fresh = thin(
        observe(
            backend("julia").build(scenario.config, dtype=scenario.dtype), truth.inputs, truth.masks
        )
    )
    torch = backend("torch").build(scenario.config, dtype=scenario.dtype)
    base = thin(observe(torch, truth.inputs, truth.masks))
    leader = program(torch, truth.inputs, truth.masks, base, keep=thin)

    def judged(allowed):
        seen = {"fresh": fresh, "kept": recording.observations}
        return compare(thin(truth.seen), seen, with_free(allowed))

    allowed = floors(leader, [], scenario.dtype, lambda allowed: doubtful(judged(allowed)))
    assert all(verdict.passed for verdict in verdicts(scenario.name, judged(allowed)))
