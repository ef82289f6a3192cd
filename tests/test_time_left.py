"""The estimate of the time that a run still takes, with a clock that the test sets."""

import pytest

from pymobilenet.training.time_left import RECENT, TimeLeft


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def train_epochs(time_left, clock, count, steps=10, step=1.0, evaluation=5.0):
    for _ in range(count):
        for _ in range(steps):
            clock.now += step
            time_left.end_step()
        clock.now += evaluation
        time_left.end_epoch()


def test_steps_and_evaluations_take_as_long_as_those_that_were_measured(clock):
    time_left = TimeLeft(0, clock)
    train_epochs(time_left, clock, 2)
    assert time_left.seconds(30, 3) == pytest.approx(30 * 1 + 3 * 5)
    assert time_left.seconds(4, 1) == pytest.approx(4 * 1 + 5)


def test_nothing_is_known_before_the_first_step(clock):
    time_left = TimeLeft(2, clock)
    assert time_left.seconds(10, 1) is None
    clock.now += 7
    time_left.end_epoch()  # resumed in an evaluation, which is now repeated
    assert time_left.seconds(10, 1) is None


def test_a_slow_first_step_counts_only_until_there_is_another(clock):
    time_left = TimeLeft(0, clock)
    clock.now += 60
    time_left.end_step()
    assert time_left.seconds(9, 0) == pytest.approx(9 * 60)
    clock.now += 2
    time_left.end_step()
    assert time_left.seconds(8, 0) == pytest.approx(8 * 2)


def test_the_first_evaluation_is_expected_to_take_its_forward_passes(clock):
    time_left = TimeLeft(2.5, clock)
    for _ in range(3):
        clock.now += 2
        time_left.end_step()
    assert time_left.seconds(7, 2) == pytest.approx(7 * 2 + 2 * 2.5 * 2)
    clock.now += 1
    time_left.end_epoch()
    assert time_left.seconds(7, 2) == pytest.approx(7 * 2 + 2 * 1)


def test_only_recent_epochs_count(clock):
    """The present epoch is one of them, before its first step too."""
    time_left = TimeLeft(0, clock)
    train_epochs(time_left, clock, 20)
    train_epochs(time_left, clock, RECENT, step=4.0, evaluation=9.0)
    assert time_left.seconds(10, 1) == pytest.approx(10 * 4 + 9)


def test_a_change_in_this_epoch_is_noticed_in_it(clock):
    time_left = TimeLeft(0, clock)
    train_epochs(time_left, clock, 20)
    for _ in range(10):
        clock.now += 4
        time_left.end_step()
    assert time_left.seconds(10, 0) == pytest.approx(10 * (20 * 1 + 10 * 4) / 30)
