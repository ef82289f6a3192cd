"""Batches that are formed in a thread: the same bits, exceptions, and the end of the thread."""

import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.data import synthetic
from pymobilenet.training.batches import Batches
from pymobilenet.training.loop import fit, take_steps
from pymobilenet.training.prefetch import Prefetch

DATA = synthetic(40, num_classes=5)
MODEL = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5, dropout=0.1)
TRAIN = TrainConfig(batch_size=8, steps=6, rotation=10, cutout=8, mixup=1, label_smoothing=0.1)


def new_batches(train=TRAIN):
    return Batches(DATA, train, MODEL, "float32")


def threads():
    return [thread for thread in threading.enumerate() if "pymobilenet" in thread.name]


def assert_same(batch, expected):
    assert batch.images.tobytes() == expected.images.tobytes()
    assert batch.labels.tobytes() == expected.labels.tobytes()
    assert batch.masks.keys() == expected.masks.keys()
    for name, mask in batch.masks.items():
        assert mask.tobytes() == expected.masks[name].tobytes()


class Recorded:
    """Batches that note step and thread; a step can be slow, or fail."""

    def __init__(self, seconds=0.0, error_at=None):
        self.calls, self.formed = [], {step: threading.Event() for step in range(10)}
        self.error, self._error_at, self._seconds = ValueError("no such image"), error_at, seconds

    def at(self, step):
        self.calls.append((step, "pymobilenet" in threading.current_thread().name))
        time.sleep(self._seconds)
        self.formed[step].set()
        if step == self._error_at:
            raise self.error
        return step


@pytest.mark.parametrize(
    "steps", [range(6), range(3, 6), [4, 0, 1, 5, 5]], ids=["all", "resumed", "in any order"]
)
def test_batches_are_the_same_bits(steps):
    expected = new_batches()
    with Prefetch(new_batches(), 6) as prefetch:
        for step in steps:
            assert_same(prefetch.at(step), expected.at(step))


def test_the_next_batch_is_formed_while_a_step_is_taken():
    """One batch ahead, and none after the last."""
    batches = Recorded()
    with Prefetch(batches, 4) as prefetch:
        for step in range(3):
            assert prefetch.at(step) == step
            assert batches.formed[step + 1].wait(60)
            assert [called for called, _ in batches.calls] == [*range(step + 2)]
        assert prefetch.at(3) == 3
        assert not batches.formed[4].wait(0.3)
    assert batches.calls == [(0, False), (1, True), (2, True), (3, True)]


def test_waiting_is_measured():
    batches = Recorded(seconds=0.1)
    with Prefetch(batches, 3) as prefetch:
        prefetch.at(0)
        assert prefetch.wait_seconds >= 0.1
        prefetch.at(1)
        assert prefetch.wait_seconds >= 0.19
        assert batches.formed[2].wait(60)
        before = prefetch.wait_seconds
        time.sleep(0.3)  # a step, which is not counted
        prefetch.at(2)
    assert prefetch.wait_seconds - before < 0.3


def test_an_error_in_the_thread_reaches_its_own_step_unchanged():
    batches = Recorded(error_at=2)
    with Prefetch(batches, 5) as prefetch:
        assert [prefetch.at(0), prefetch.at(1)] == [0, 1]
        with pytest.raises(ValueError, match="no such image") as raised:
            prefetch.at(2)
        assert raised.value is batches.error
        assert prefetch.at(3) == 3
    assert threads() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_the_thread_ends_with_the_training_whatever_ends_it(error):
    def stop(record):
        assert len(threads()) == 1
        if record.step == 2:
            raise error

    model = backend("torch").build(MODEL)
    with pytest.raises(error):
        fit(model, DATA, TRAIN, [stop])
    assert threads() == []
    assert len(fit(model, DATA, TRAIN).losses) == 6
    assert threads() == []


def test_an_interrupt_waits_for_one_batch_at_most():
    batches = Recorded(seconds=0.1)

    def interrupt():
        with Prefetch(batches, 9) as prefetch:
            prefetch.at(0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert len(batches.calls) <= 2
    assert threads() == []


def test_without_threads_batches_are_formed_when_they_are_needed(monkeypatch):
    """As in a container that allows no more, or while the interpreter ends."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    batches = Recorded()
    with Prefetch(batches, 4) as prefetch:
        assert [prefetch.at(step) for step in range(4)] == [0, 1, 2, 3]
    assert batches.calls == [(step, False) for step in range(4)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_fork_forms_its_batches_itself(forks):
    """It has no thread; waiting for one would never end."""
    code = """
import os
from pymobilenet import MobileNetConfig, TrainConfig
from pymobilenet.data import synthetic
from pymobilenet.training.batches import Batches
from pymobilenet.training.prefetch import Prefetch
data, train = synthetic(16, num_classes=5), TrainConfig(batch_size=8)
batches = Batches(data, train, MobileNetConfig(num_classes=5), "float32")
with Prefetch(batches, 9) as prefetch:
    prefetch.at(0)
    child = os.fork()
    for step in (1, 2, 3):
        assert (prefetch.at(step).images == batches.at(step).images).all()
if child:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    process = forks.start(code)
    assert process.wait(timeout=100) == 0, process.stderr
    assert process.stdout == "0\n"


@pytest.mark.parametrize("augmented", [True, False])
def test_training_gives_the_bits_of_steps_without_a_thread(augmented):
    train = TRAIN if augmented else replace(TRAIN, rotation=0, cutout=0, mixup=0)
    model, other = (backend("torch").build(MODEL) for _ in range(2))
    fit(model, DATA, train)
    other.set_optimizer(train)
    with other.fitting():
        for _ in take_steps(other, new_batches(train), train, range(train.steps)):
            pass
    state, expected = model.get_state(), other.get_state()
    for name, tensor in state.items():
        assert np.array_equal(tensor, expected[name]), name
