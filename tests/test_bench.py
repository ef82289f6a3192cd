"""`bench`: contenders take turns, and the measurements are written."""

import json
import os
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from pymobilenet import MobileNetConfig, backend, doctor
from pymobilenet.architecture import mult_adds
from pymobilenet.backends.julia.runtime import blas, sysimage
from pymobilenet.bench import Case, Contender, Timing, available, measure
from pymobilenet.bench.contenders import CONTENDERS, RATIO_BASE
from pymobilenet.bench.measure import (
    LEAST_REPEATS,
    LEAST_SECONDS,
    MOST_SECONDS,
    REST,
    WARM_UP,
    cases,
)
from pymobilenet.cli import app
from pymobilenet.errors import ConfigError
from pymobilenet.machine import cores

measurement = sys.modules["pymobilenet.bench.measure"]
SMALL = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5)
TRAIN = Case(SMALL, 4, "train")


class Clock:
    """Time that only jobs take."""

    def __init__(self):
        self.now = 0.0
        self.is_rested = False

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        assert seconds == REST
        self.is_rested = True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measurement, "time", clock)
    return clock


def worker(name, seconds, log, clock, waking=0.0):
    """A contender that takes `seconds`, and after a rest `waking` more."""

    def make(_config, _images, _labels):
        def job():
            log.append(name)
            clock.now += seconds + waking * clock.is_rested
            clock.is_rested = False

        return job

    return Contender(name, "torch", make, None)


def test_contenders_take_turns(clock):
    log = []
    workers = [worker("a", 0.03, log, clock), worker("b", 0.06, log, clock)]
    timings = measure(TRAIN, workers, repeats=3)
    assert log[-18:] == ["a", "a", "a", "b", "b", "b"] * 3
    assert [timing.contender for timing in timings] == ["a", "b"]
    assert timings[0].seconds == pytest.approx([0.03] * 3)
    assert timings[1].seconds == pytest.approx([0.06] * 3)


def test_the_first_run_after_a_rest_is_measured_apart_from_hot_runs(clock):
    (timing,) = measure(TRAIN, [worker("a", 0.002, [], clock, waking=0.05)], repeats=3)
    assert timing.seconds == pytest.approx([0.002] * 3)
    assert timing.rested_seconds == pytest.approx([0.052] * 3)
    assert timing.rested_median == pytest.approx(0.052)


def test_a_short_job_is_repeated_within_a_measurement(clock):
    log = []
    (timing,) = measure(TRAIN, [worker("a", 0.002, log, clock)], repeats=3)
    assert len(log) == WARM_UP + 1 + 3 * (1 + round(LEAST_SECONDS / 0.002) + 1)
    assert timing.median == pytest.approx(0.002)


def test_a_long_job_is_measured_less_often(clock):
    seconds = MOST_SECONDS / 4
    workers = [worker("a", seconds, [], clock), worker("b", 100 * seconds, [], clock)]
    counts = [len(timing.seconds) for timing in measure(TRAIN, workers, repeats=9)]
    assert counts == [4, LEAST_REPEATS]


def test_what_a_run_allocates_is_measured(clock):
    log = []
    one = worker("a", 0.1, log, clock)._replace(allocated=lambda: 1000 * len(log))
    assert measure(TRAIN, [one], repeats=3)[0].allocated == 1000


def test_a_contender_without_the_job_is_left_out():
    assert measure(Case(SMALL, 4, "predict"), [worker("a", 0, [], Clock())]) == []


def test_figures_follow_from_the_seconds():
    timing = Timing(TRAIN, "a", (0.1, 0.2, 0.3))
    assert timing.median == 0.2
    assert timing.images_per_second == pytest.approx(20)
    assert timing.gflops == pytest.approx(6 * 4 * mult_adds(SMALL) / 0.2 / 1e9)
    assert timing.spread == pytest.approx(0.25)
    assert timing.rested_median is None


def test_every_combination_is_a_case_but_a_training_step_of_one_image():
    result = cases(["v1", "v2"], [0.25], [32], [1, 8], [1, 2], ["train", "predict"])
    assert len(result) == 2 * 2 * 3
    assert not [case for case in result if case.job == "train" and case.batch_size == 1]


def test_a_sweep_varies_one_axis_at_a_time():
    axes = [[0.25, 0.5, 1.0], [32, 64, 128], [1, 32, 128], [2], ["train", "predict"]]
    full_cases, sweep_cases = (cases(["v1"], *axes, sweep=sweep) for sweep in (False, True))
    assert [sum(case.job == job for case in full_cases) for job in ("train", "predict")] == [18, 27]
    assert [sum(case.job == job for case in sweep_cases) for job in ("train", "predict")] == [6, 7]
    assert set(sweep_cases) <= set(full_cases)
    result = {(c.config.width_mult, c.config.resolution, c.batch_size) for c in sweep_cases}
    assert result == {
        *((width, 64, 32) for width in (0.25, 0.5, 1.0)),
        *((0.5, resolution, 32) for resolution in (32, 128)),
        *((0.5, 64, batch) for batch in (1, 128)),
    }
    assert cases(["v1"], [0.25], [32], [1], [2], ["train"], sweep=True) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--job", "foo"], "job must be one of train, predict. Received: 'foo'"),
        (["--batch-size", "-1"], "batch_size must be at least 1. Received: -1"),
        (["--batch-size", "0", "--job", "train"], "batch_size must be at least 1. Received: 0"),
        (["--width-mult", "-1"], "width_mult must be in (0, 2]. Received: -1.0"),
        (["--resolution", "1"], "resolution must be in [32, 4096] pixels. Received: 1"),
    ],
)
def test_bench_refuses_invalid_arguments_in_one_line(tmp_path, arguments, message):
    out = ["--out", str(tmp_path / "out"), "--contender", "torch"]
    refused = CliRunner().invoke(app, ["bench", *out, *arguments])
    assert (refused.exit_code, refused.stderr.strip()) == (2, f"ConfigError: {message}")
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder_is_refused_before_anything_is_measured(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(measurement, "measure", lambda *_: pytest.fail("it was measured"))
    (tmp_path / "file").touch()
    out = ["--out", str(tmp_path / "file"), "--contender", "torch"]
    refused = CliRunner().invoke(app, ["bench", *out])
    assert refused.exit_code == 2
    assert "must be a folder or a new path" in refused.stderr


def test_cores_are_counted_on_a_system_without_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_a_requested_contender_that_is_missing_is_an_error():
    with pytest.raises(ConfigError, match="Received: cuda"):
        available(["cuda"])
    result, _ = available(["torch"])
    assert [one.name for one in result] == ["torch"]
    assert RATIO_BASE in [one.name for one in CONTENDERS]


@pytest.mark.parametrize("name", ["torch baseline, channels_last", "torch", RATIO_BASE])
def test_torchs_contenders_do_the_same_work(name):
    (one,), _ = available([name])
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    labels = np.arange(4)
    assert one.predict(SMALL, images, labels)().shape == (4, 5)
    assert one.train(SMALL, images, labels)() is not None


def test_the_command_writes_json_and_pictures(tmp_path):
    arguments = ["--contender", "torch", "--width-mult", "0.1", "--batch-size", "2"]
    more = ["--batch-size", "4", "--repeats", "3", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["bench", *arguments, *more])
    assert result.exit_code == 0, result.output
    result = json.loads((tmp_path / "bench.json").read_text())
    assert len(result["timings"]) == 4
    assert {len(timing["rested_seconds"]) for timing in result["timings"]} == {3}
    assert min(result["gemm_gflops"].values()) > 0
    assert result["about"]["torch"]["torch"]
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"train-v1.png", "predict-v1.png"}


def test_the_doctor_names_processor_and_backends(monkeypatch):
    reasons = {"julia": "it is a test"}
    monkeypatch.setattr(doctor, "why_unavailable", reasons.get)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "it is a test" in result.output
    for words in ("processor", "torch", "GFLOP/s", "cores"):
        assert words in result.output


@pytest.mark.julia
def test_the_doctor_reports_julias_blas():
    result = blas()
    assert result["library"]
    assert int(result["threads"]) >= 1
    assert int(result["julia_threads"]) == backend("julia").threads()["julia"]
    assert sysimage() == os.environ.get("PYTHON_JULIACALL_SYSIMAGE")


IMAGES = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)


@pytest.mark.julia
@pytest.mark.parametrize("name", ["julia", "julia, without juliacall"])
def test_julias_contenders_do_the_same_work(name):
    (one,), _ = available([name])
    assert one.train(SMALL, IMAGES, np.arange(4))() is not None
    (timing,) = measure(Case(SMALL, 4, "predict"), [one], repeats=3)
    assert timing.allocated > 0


@pytest.mark.julia
def test_stock_flux_predicts_what_julia_does():
    (stock, own), _ = available(["stock Flux", "julia"])
    metalhead_logits, _ = stock.predict(SMALL, IMAGES, np.arange(4))()
    logits = own.predict(SMALL, IMAGES, np.arange(4))()
    np.testing.assert_allclose(
        np.asarray(metalhead_logits).T, logits, atol=1e-4 * np.abs(logits).max()
    )
