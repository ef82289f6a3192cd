"""`bench --roofline`: what is counted, the limit, and the time of each kind of kernel."""

import io
import json

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from pymobilenet import MobileNetConfig
from pymobilenet.architecture import num_params
from pymobilenet.bench import CONTENDERS, Case, Timing, available, peak, profiles
from pymobilenet.bench.contenders import RATIO_BASE
from pymobilenet.bench.limits import measure_limit, print_limits
from pymobilenet.bench.onnx_peers import INT8, openvino_missing
from pymobilenet.bench.peak import Bandwidth, Peaks, measure_peaks, memory_bandwidth
from pymobilenet.bench.roofline import KINDS, Kernel, kernels, kind_limits
from pymobilenet.cli import app

SMALL = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10)
SMALL_V2 = MobileNetConfig("v2", width_mult=0.25, resolution=32, num_classes=10)
PEAKS = Peaks("torch", 100.0, Bandwidth(10.0, 4 * 10**9, 10**9))
"""Ten operations take as long as a byte."""


def predicting(config=SMALL, batch_size=4):
    return Case(config, batch_size, "predict")


def training(config=SMALL, batch_size=4):
    return Case(config, batch_size, "train")


def named(case):
    return {kernel.name: kernel for kernel in kernels(case)}


# What is counted


def test_the_kernels_of_a_prediction_are_counted_as_by_hand():
    """Stem: 3 channels of 32x32 to 8 of 16x16. Four images, four bytes for each value."""
    found = named(predicting())
    values = 4 * 3 * 32**2 + 8 * 3 * 9 + 8 + 4 * 8 * 16**2
    assert found["stem.conv"] == Kernel("stem.conv", "stem", 2 * 4 * 8 * 16**2 * 27, 4 * values)
    values = 4 * 8 * 16**2 + 8 * 9 + 8 + 4 * 8 * 16**2
    depthwise = Kernel("blocks.0.depthwise.conv", "depthwise", 2 * 4 * 8 * 16**2 * 9, 4 * values)
    assert found["blocks.0.depthwise.conv"] == depthwise
    values = 4 * 8 * 16**2 + 8 * 16 + 16 + 4 * 16 * 16**2
    pointwise = Kernel("blocks.0.pointwise.conv", "pointwise", 2 * 4 * 16 * 16**2 * 8, 4 * values)
    assert found["blocks.0.pointwise.conv"] == pointwise
    values = 4 * 256 + 257 * 10 + 4 * 10
    head = Kernel("head forward", "head", 4 * 256 + 2 * 4 * 256 * 10, 4 * values)
    assert found["head forward"] == head


@pytest.mark.parametrize("config", [SMALL, SMALL_V2], ids=["v1", "v2"])
def test_the_operations_of_a_prediction_are_its_multiply_adds_and_the_pooling(config):
    case = predicting(config)
    pooled = 4 * (256 if config is SMALL else 1280)
    assert sum(kernel.operations for kernel in kernels(case)) == case.operations + pooled


def test_a_step_repeats_each_convolution_for_both_gradients_but_of_the_images():
    forward, step = named(predicting()), named(training())
    for name in ("blocks.0.depthwise.conv", "blocks.5.pointwise.conv"):
        passes = [kernel for key, kernel in step.items() if key.startswith(name)]
        assert [each.operations for each in passes] == [forward[name].operations] * 3
    assert [key for key in step if key.startswith("stem.conv")] == [
        "stem.conv forward",
        "stem.conv weight gradient",
    ]


def test_norms_and_the_optimizer_are_kernels_only_in_training():
    assert {kernel.kind for kernel in kernels(predicting())} == set(KINDS) - {"norm", "optimizer"}
    step = named(training())
    assert {kernel.kind for kernel in step.values()} == set(KINDS)
    assert step["stem.norm forward"].bytes == 4 * (2 * 4 * 8 * 16**2 + 2 * 8)
    assert step["stem.norm backward"].bytes == 4 * (3 * 4 * 8 * 16**2 + 2 * 8)
    assert step["Adam"].bytes == 7 * 4 * num_params(SMALL)


def test_a_residual_is_read_where_it_is_added():
    """`blocks.2` of V2 has 8 channels of 8x8 before and after it."""
    forward, step = named(predicting(SMALL_V2)), named(training(SMALL_V2))
    inputs, outputs, weights = 4 * 48 * 8**2, 4 * 8 * 8**2, 48 * 8
    project = forward["blocks.2.project.conv"]
    assert project.bytes == 4 * (inputs + weights + 8 + 2 * outputs)
    assert step["blocks.2.project.norm forward"].bytes == 4 * (3 * outputs + 2 * 8)
    assert forward["head.conv"].kind == "pointwise"


# The limit


def test_a_kernel_is_bound_by_what_takes_longer():
    compute, memory = Kernel("a", "stem", 2e11, 1e9), Kernel("b", "stem", 1e10, 2e10)
    assert (compute.limit(PEAKS), compute.bound(PEAKS)) == (2.0, "compute")
    assert (memory.limit(PEAKS), memory.bound(PEAKS)) == (2.0, "memory")
    (kind,) = kind_limits([compute, memory], PEAKS)
    assert (kind.bound, kind.seconds) == ("both", 4.0)
    assert (kind.operations, kind.bytes) == (2.1e11, 2.1e10)


def test_the_share_is_the_limit_over_the_hot_median_and_int8_has_none():
    case = predicting()
    contenders = [one._replace(profiles={}) for one in CONTENDERS if one.predict]
    timings = [Timing(case, one.name, (0.5, 1.0, 1.5)) for one in contenders]
    found = measure_limit(case, PEAKS, timings, contenders)
    assert found.seconds == pytest.approx(sum(each.limit(PEAKS) for each in kernels(case)))
    shares = {share.contender: share.share for share in found.shares}
    assert shares[RATIO_BASE] == found.seconds
    assert [name for name, share in shares.items() if share is None] == [
        "onnxruntime int8",
        "OpenVINO int8",
    ]


# The peaks


def measured_bandwidth(monkeypatch, caches, available_bytes):
    counts = []
    monkeypatch.setattr(peak, "cache_bytes", lambda: caches)
    monkeypatch.setattr(peak, "available_bytes", lambda: available_bytes)
    monkeypatch.setattr("pymobilenet.backends.torch.timing.triad", counts.append)
    monkeypatch.setattr(peak, "_best", lambda _: 0.5)
    return memory_bandwidth(), counts[0]


@pytest.mark.parametrize(
    ("caches", "available_bytes", "array_bytes", "exceeds"),
    [
        (10**6, 10**9, 4 * 10**6, True),
        (10**6, None, 4 * 10**6, True),
        (10**6, 12 * 10**6, 2 * 10**6, False),
        (None, None, 4 * peak.UNKNOWN_CACHE, True),
    ],
)
def test_the_arrays_are_larger_than_the_caches_where_memory_allows(
    monkeypatch, caches, available_bytes, array_bytes, exceeds
):
    result, count = measured_bandwidth(monkeypatch, caches, available_bytes)
    assert result.array_bytes == 4 * count == array_bytes
    assert result.exceeds_caches == exceeds
    assert result.gbytes_per_second == pytest.approx(3 * array_bytes / 0.5 / 1e9)


def test_the_triad_adds_three_arrays():
    from pymobilenet.backends.torch.timing import triad

    assert triad(5)().tolist() == [7.0] * 5


def test_the_fastest_library_sets_the_peak(monkeypatch):
    monkeypatch.setattr(peak, "gemm_peak", lambda names: dict.fromkeys(names, 100.0))
    monkeypatch.setattr(peak, "memory_bandwidth", lambda: PEAKS.bandwidth)
    assert measure_peaks({"julia": 120.0})[:2] == ("julia", 120.0)
    assert measure_peaks({"julia": 80.0})[:2] == ("torch", 100.0)


# The time of each kind


@pytest.fixture
def few_runs(monkeypatch):
    monkeypatch.setattr(profiles, "WARM_UP", 0)
    monkeypatch.setattr(profiles, "RUNS", 1)


CASES = {"v1": predicting(), "v2": predicting(SMALL_V2)}
OF_OPENVINO = pytest.mark.skipif(
    openvino_missing(INT8) is not None, reason="openvino is not installed"
)


@pytest.mark.usefixtures("few_runs")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    "name",
    [
        "torch channels_last",
        "onnxruntime",
        "onnxruntime int8",
        pytest.param("OpenVINO", marks=OF_OPENVINO),
        pytest.param("OpenVINO int8", marks=OF_OPENVINO),
    ],
)
def test_a_prediction_has_times_of_each_kind(name, case):
    (one,), _ = available([name])
    seconds = one.profiles["predict"](case.config, *case.inputs())
    assert {"stem", "depthwise", "pointwise", "head", "other"} <= set(seconds)
    assert set(seconds) <= {*KINDS, "other"} - {"optimizer"}
    assert all(seconds[kind] > 0 for kind in ("stem", "depthwise", "pointwise", "head"))


@pytest.mark.usefixtures("few_runs")
@pytest.mark.parametrize("name", ["torch baseline, channels_last", "torch channels_last"])
def test_a_step_of_torch_has_times_of_all_kinds(name, capfd):
    (one,), _ = available([name])
    case = training(SMALL_V2)
    seconds = one.profiles["train"](case.config, *case.inputs())
    assert set(seconds) == {*KINDS, "other"}
    assert min(seconds.values()) > 0
    assert capfd.readouterr().err == ""


def test_events_of_onnxruntime_are_summed_by_run():
    def node(name, operator, duration):
        event = {"cat": "Node", "name": f"{name}_kernel_time", "dur": duration}
        return {**event, "args": {"op_name": operator}}

    one = [
        node("stem.act_nchwc", "Conv", 10),
        node("blocks.1.expand.conv_token_3", "QLinearConv", 20),
        node("blocks.2.add", "QLinearAdd", 3),
        node("blocks.1.depthwise.norm", "BatchNormalization", 4),
        node("reorder", "ReorderInput", 5),
        node("logits", "Gemm", 6),
        {"cat": "Session", "name": "model_run", "dur": 50},
    ]
    result = list(profiles._onnxruntime_runs(SMALL_V2, one + one))
    assert result[0] == result[1]
    expected = {"stem": 10, "pointwise": 23, "norm": 4, "head": 6, "other": 7}
    assert result[0] == pytest.approx({kind: 1e-6 * micro for kind, micro in expected.items()})


def test_the_run_of_the_median_time_is_typical():
    slow = {"stem": 99.0, "other": 0.0}
    runs = [{"stem": float(number), "other": 0.0} for number in range(profiles.RUNS)]
    assert profiles._typical([slow] * profiles.WARM_UP + runs) == runs[profiles.RUNS // 2]


# The tables and the command


def test_the_tables_fit_80_columns_and_name_what_has_no_profiler():
    case = training()
    seconds = dict.fromkeys((*KINDS, "other"), 1.2341)
    contenders = [
        one._replace(profiles=dict.fromkeys(one.profiles, lambda *_: seconds))
        for one in CONTENDERS
        if one.train
    ]
    timings = [Timing(case, one.name, (1.0, 1.0, 1.0)) for one in contenders]
    found = measure_limit(case, PEAKS, timings, contenders)
    console = Console(width=80, file=io.StringIO())
    print_limits(PEAKS, [found], console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    with_profile = [one for one in contenders if "train" in one.profiles]
    assert len(with_profile) == 5  # three of torch, two of Julia
    assert text.count(" 1234 ") == len(with_profile) * (len(KINDS) + 1)
    unknown = "torch compile; julia reference; stock Flux"
    assert unknown in " ".join(text.split())
    assert "fit into the caches of 1000 MB" in " ".join(text.split())
    small = PEAKS._replace(bandwidth=Bandwidth(10.0, 10**6, None))
    print_limits(small, [found], console)
    assert "four times the caches of unknown size" in " ".join(console.file.getvalue().split())


def test_the_command_writes_and_prints_the_limits(tmp_path, monkeypatch):
    monkeypatch.setattr("pymobilenet.bench.peak.memory_bandwidth", lambda: PEAKS.bandwidth)
    seconds = {"stem": 1.0, "other": 0.5}
    (one,) = (one for one in CONTENDERS if one.name == "onnxruntime")
    one = one._replace(profiles={"predict": lambda *_: seconds})
    monkeypatch.setattr("pymobilenet.bench.available", lambda _: ([one], {}))
    words = ["--width-mult", "0.1", "--batch-size", "2", "--job", "predict", "--repeats", "3"]
    words += ["--roofline", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["bench", *words])
    assert result.exit_code == 0, result.output
    assert "Limit: predict, v1" in result.stdout
    values = json.loads((tmp_path / "bench.json").read_text())["roofline"]
    (case,) = values["cases"]
    assert values["gbytes_per_second"] == 10.0
    assert case["limit"] == pytest.approx(sum(kind["seconds"] for kind in case["kinds"]))
    assert case["limit"] == pytest.approx(sum(each["limit"] for each in case["kernels"]))
    assert case["contenders"][0]["seconds"] == seconds
    assert np.isfinite(case["contenders"][0]["share"])
