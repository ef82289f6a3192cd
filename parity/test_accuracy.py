"""Activations that are less exact than torch's are found, though they are within their floors."""

import faults
import pytest
from lab import Place, assert_agree, assert_divergence

from pymobilenet.parity.accuracy import Accuracy

INF = float("inf")
CONTIGUOUS = {"stem.conv": 1e-7, "stem.norm": 2e-7, "logits": 4e-7}
CHANNELS_LAST = {"stem.conv": 1e-7, "stem.norm": 2e-6, "logits": 4e-6}


def accuracy(*errors):
    return Accuracy("s", "b", dict(zip(CONTIGUOUS, errors, strict=True)), CONTIGUOUS, CHANNELS_LAST)


@pytest.mark.parametrize(
    ("errors", "typical", "largest", "first"),
    [
        ((1e-7, 2e-7, 4e-7), 1.0, ("stem.conv", 1.0), None),
        ((1.5e-7, 3e-7, 6e-7), 1.5, ("stem.conv", 1.5), None),
        ((0.0, 0.0, 0.0), 0.0, ("stem.conv", 0.0), None),
        ((1e-7, 2e-7, 6e-6), 1.0, ("logits", 1.5), None),
        ((1e-7, 2e-7, 6.1e-6), 1.0, ("logits", 1.525), "logits"),
        ((1.6e-7, 2e-7, 4e-7), 1.0, ("stem.conv", 1.6), "stem.conv"),
        ((1e-7, 3.2e-7, 6.4e-7), 1.6, ("stem.conv", 1.0), "stem.norm"),
        ((1e-7, INF, 4e-7), 1.0, ("stem.norm", INF), "stem.norm"),
    ],
)
def test_the_median_and_every_activation_are_judged(errors, typical, largest, first):
    result = accuracy(*errors)
    assert result.typical == pytest.approx(typical)
    assert result.largest == (largest[0], pytest.approx(largest[1]))
    assert result.passed is (first is None)
    assert (result.divergence and result.divergence.name) == first


def test_an_activation_that_torch_computes_exactly_must_be_exact():
    exact = dict.fromkeys(CONTIGUOUS, 0.0)
    errors = {**CONTIGUOUS, "stem.norm": 0.0, "logits": 0.0}
    result = Accuracy("s", "b", errors, exact, exact)
    assert (result.typical, result.largest) == (0.0, ("stem.conv", INF))
    assert (result.divergence.name, result.divergence.floor) == ("stem.conv", 0.0)


@pytest.mark.parametrize("is_leader", [False, True])
def test_a_backend_that_is_less_exact_than_torch_is_named(lab, is_leader):
    """Two bits lost in every activation: all levels pass by their floors."""
    models = [("torch", lab.build("torch", "float32"))]
    less_exact = faults.LessExact(lab.build("torch", "float32"), factor=3.6)
    models.insert(0 if is_leader else 1, ("other", less_exact))
    report = lab.levels("float32", **dict(models))
    assert all(verdict.passed for verdict in report.verdicts)
    assert_divergence(report, Place(1, "forward", "accuracy", "stem.conv"), "other")
    (result,) = [one for one in report.scenarios[0].accuracies if one.backend == "other"]
    assert result.typical == pytest.approx(3.6, rel=0.1)


def test_a_backend_as_exact_as_torch_passes(lab):
    other = faults.LessExact(lab.build("torch", "float32"), factor=1.3)
    report = lab.levels("float32", other=other)
    assert_agree(report)
    assert [one.backend for one in report.scenarios[0].accuracies] == ["torch", "other"]


def test_the_oracle_has_nothing_to_judge_float64_by(lab):
    report = lab.levels("float64", other=lab.build("numpy", "float64"))
    assert report.scenarios[0].accuracies == []
