"""The estimate of how long a comparison takes."""

import pytest

from pymobilenet import MobileNetConfig
from pymobilenet.architecture import mult_adds
from pymobilenet.backends.julia import project
from pymobilenet.parity import estimate, read_recordings

SMALL = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100, stem_stride=2)
LARGE = MobileNetConfig(width_mult=1.0, resolution=32, num_classes=100, stem_stride=2)


@pytest.fixture
def seconds(monkeypatch):
    """Make a multiply-add take a nanosecond in each backend; return the estimated seconds."""
    monkeypatch.setattr(estimate, "seconds_per_mult_add", lambda _: 1e-9)
    monkeypatch.setattr(estimate, "_sentence", str)

    def estimated(configs, dtypes, steps):
        return float(estimate.describe_duration(("torch", "numpy"), configs, dtypes, steps))

    return estimated


def test_levels_0_to_3_take_time_by_their_multiply_adds(seconds):
    small, large = (seconds([config], ["float64"], 0) for config in (SMALL, LARGE))
    assert large / small == pytest.approx(mult_adds(LARGE) / mult_adds(SMALL))
    assert seconds([SMALL], ["float64", "float32"], 0) == pytest.approx(2 * small)
    assert seconds([SMALL, LARGE], ["float64"], 0) == pytest.approx(small + large)


def test_steps_add_lockstep_curves_and_hand_over_of_the_first_net(seconds):
    without, five, ten = (seconds([SMALL, LARGE], ["float64"], steps) for steps in (0, 5, 10))
    assert without < five < ten
    swapped = [seconds([LARGE, SMALL], ["float64"], steps) for steps in (5, 10)]
    ratio = mult_adds(LARGE) / mult_adds(SMALL)
    assert swapped[1] - swapped[0] == pytest.approx(ratio * (ten - five))


def test_a_training_step_is_measured():
    assert 0 < estimate.seconds_per_mult_add("torch") < 1


def test_a_sentence_has_seconds_or_minutes(monkeypatch):
    assert "about 42 seconds" in estimate._sentence(42.4)
    assert "about 3 minutes" in estimate._sentence(181)
    monkeypatch.setattr(estimate, "seconds_per_mult_add", lambda _: 1e-9)
    assert "Expected time" in estimate.describe_replay_duration(read_recordings(), "torch")


@pytest.mark.parametrize(("is_set_up", "words"), [(True, "compiling"), (False, "not installed")])
def test_julias_installation_is_announced(monkeypatch, is_set_up, words):
    monkeypatch.setattr(estimate, "seconds_per_mult_add", lambda _: 1e-9)
    monkeypatch.setattr(project, "is_set_up", lambda: is_set_up)
    names = ("torch", "julia")
    assert words in estimate.describe_duration(names, [SMALL], ["float64"], 5)
