"""`bench`: measurements in fresh processes, and the number of threads."""

import os
import subprocess
import sys
import time

import pytest

from pymobilenet import MobileNetConfig
from pymobilenet.bench import Case, process
from pymobilenet.bench.process import fresh_process
from pymobilenet.errors import BackendUnavailable

SMALL = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5)
TRAIN = Case(SMALL, 4, "train")


def test_a_fresh_process_measures_from_its_start_to_the_first_result():
    case = Case(SMALL, 64, "predict")
    start = time.time()
    result = fresh_process(case, "torch")
    assert 0 < result.first_result < time.time() - start
    assert result.memory > 0
    assert (result.case, result.contender) == (case, "torch")
    with pytest.raises(BackendUnavailable, match="cuda"):
        fresh_process(TRAIN, "cuda")


def test_the_first_result_is_counted_from_the_start_of_the_process(monkeypatch):
    class Done:
        returncode, stdout = 0, 'a line of a library\n{"first": 107.5, "memory": 4096}\n'

    monkeypatch.setattr(process.time, "time", lambda: 100.0)
    monkeypatch.setattr(process.subprocess, "run", lambda *_, **__: Done)
    result = fresh_process(TRAIN, "torch")
    assert (result.first_result, result.memory) == (7.5, 4096)


HELD = """
import sys

import numpy as np
from pymobilenet.bench import process
from pymobilenet.bench.contenders import Contender

megabytes, log = {(0.25, 2): 256, (0.1, 4): 64}, []

def make(config, images, _labels):
    def job():
        log.append(megabytes[config.width_mult, len(images)])
        return np.ones(log[-1] * 2**17).sum()

    return job

process.available = lambda _: ([Contender("fake", "torch", make, None)], {})
result = process._run("fake", "train", "4", sys.argv[1])
print(result["memory"], *log)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux counts the memory")
def test_memory_is_what_the_case_adds_to_the_loaded_runtime():
    """A job that holds 64 MB for the case, after one that held 256 MB in the run before.

    In a process of its own: in this one, what earlier tests held may be given back meanwhile.
    """
    code = [sys.executable, "-W", "error", "-c", HELD, SMALL.to_json()]
    done = subprocess.run(code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    memory, *log = map(int, done.stdout.split())
    assert log == [256, *[64] * process.STEPS]
    assert memory == pytest.approx(64 * 2**20, rel=0.25)


def test_threads_are_chosen_before_a_framework_is_loaded():
    code = (
        "import os, sys; from pymobilenet.bench.process import use_threads; use_threads(1);"
        "import torch; assert torch.get_num_threads() == 1; use_threads(2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ConfigError: threads must be chosen before torch is imported" in done.stderr
    assert "AssertionError" not in done.stderr
