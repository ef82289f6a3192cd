"""`bench --compare`: what has become slower than in an earlier run is named, and noise is not."""

import io
import json
import sys
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pymobilenet import MobileNetConfig
from pymobilenet.bench import Case, Timing, bench_to_dict
from pymobilenet.bench.compare import (
    LEAST_GROWTH,
    changes,
    check_common,
    differences,
    print_comparison,
    read_bench,
)
from pymobilenet.bench.contenders import CONTENDERS
from pymobilenet.cli import app
from pymobilenet.errors import ConfigError

CASE = Case(MobileNetConfig(width_mult=0.1, resolution=32, num_classes=100), 4, "predict")
SECONDS = (0.99, 1.0, 1.01, 1.0, 1.0)
"""The median is 1, and half the interquartile distance 0."""

NOISY = (0.8, 0.9, 1.0, 1.1, 1.2)
"""The median is 1, and half the interquartile distance 0.1."""

VERSIONS = {"torch": {"torch": "2.13.0", "threads": 2}}


def scaled(seconds, factor):
    return tuple(factor * one for one in seconds)


def timing(hot=SECONDS, rested=SECONDS, contender="torch", case=CASE):
    return Timing(case, contender, hot, rested_seconds=rested)


def written(path, timings, **about):
    values = bench_to_dict(timings, [], {"torch": 150.0}, VERSIONS)
    values["about"].update(about)
    path.write_text(json.dumps(values))
    return path


def slower(old, new):
    return [change.series for change in changes(old, new) if change.is_slower]


@pytest.mark.parametrize(
    ("seconds", "factor", "expected"),
    [
        (SECONDS, 1.3, ["hot"]),
        (SECONDS, 1 + 0.9 * LEAST_GROWTH, []),
        (SECONDS, 1 + 1.1 * LEAST_GROWTH, ["hot"]),
        (SECONDS, 0.7, []),
        (NOISY, 1.25, []),
        (NOISY, 1.6, ["hot"]),
    ],
)
def test_slower_is_what_exceeds_both_the_spread_and_the_least_growth(seconds, factor, expected):
    assert slower(timing(seconds), timing(scaled(seconds, factor))) == expected


def test_the_larger_spread_of_the_two_runs_counts():
    assert slower(timing(SECONDS), timing(scaled(NOISY, 1.25))) == []
    assert slower(timing(NOISY), timing(scaled(SECONDS, 1.25))) == []


def test_rested_runs_are_judged_as_hot_runs_are():
    assert slower(timing(), timing(rested=scaled(SECONDS, 1.3))) == ["rested"]


def test_a_file_without_rested_runs_is_compared_in_its_hot_runs(tmp_path):
    values = json.loads(written(tmp_path / "old.json", [timing()]).read_text())
    for one in values["timings"]:
        del one["rested_seconds"], one["rested_median"]
    del values["roofline"]
    (tmp_path / "old.json").write_text(json.dumps(values))
    (old,) = read_bench(tmp_path / "old.json").timings
    assert old == timing(rested=())
    assert [change.series for change in changes(old, timing())] == ["hot"]


def test_a_written_file_is_read_as_it_was_measured(tmp_path):
    timings = [timing(), timing(NOISY, contender="OpenVINO")]
    earlier = read_bench(written(tmp_path / "old.json", timings))
    assert list(earlier.timings) == timings
    assert earlier.peaks == {"torch": 150.0}
    assert differences(earlier, VERSIONS) == []


def test_the_comparison_prints_quotients_of_what_both_runs_have(tmp_path):
    other = replace(CASE, batch_size=8)
    earlier = read_bench(written(tmp_path / "old.json", [timing(), timing(case=other)]))
    new = [timing(scaled(SECONDS, 1.3)), timing(contender="OpenVINO")]
    console = Console(width=80, file=io.StringIO())
    result = print_comparison(earlier, new, {"torch": 75.0}, [], console)
    assert result == [f"torch, {CASE}, hot: 1.30"]
    text = console.file.getvalue()
    assert "hot slower" in text
    assert "1.30" in text
    assert "torch 0.50" in text
    assert "OpenVINO" not in text
    assert "batch 8" not in text


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"processor": "a Z80"}, "processor: a Z80 there"),
        ({"cores": 4711}, "cores: 4711 there"),
        ({"torch": {"threads": 7}}, "threads of torch: {'threads': 7} there, {'threads': 2} here"),
        ({"torch": {"torch": "1.0", "threads": 2}}, None),
    ],
)
def test_times_of_other_conditions_are_compared_and_not_judged(tmp_path, about, message):
    earlier = read_bench(written(tmp_path / "old.json", [timing()], **about))
    different = differences(earlier, VERSIONS)
    assert [message in one for one in different] == ([] if message is None else [True])
    console = Console(width=80, file=io.StringIO())
    result = print_comparison(earlier, [timing(scaled(SECONDS, 1.3))], {}, different, console)
    assert bool(result) == (message is None)
    assert "1.30" in console.file.getvalue()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", r"not a JSON object. Received: \[1\]"),
        ("{}", "no 'timings'"),
        ('{"timings": [], "gemm_gflops": {}}', "no 'about'"),
        ('{"timings": 3}', "not iterable"),
        ('{"timings": [{"contender": "torch"}]}', "no 'config'"),
    ],
)
def test_a_file_that_is_no_bench_file_is_refused(tmp_path, text, reason):
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"old.json must be a bench.json .*{reason}"):
        read_bench(tmp_path / "old.json")


@pytest.mark.parametrize("seconds", [[], [1.0, 0.0]])
def test_times_that_are_missing_or_not_positive_are_refused(tmp_path, seconds):
    values = json.loads(written(tmp_path / "old.json", [timing()]).read_text())
    values["timings"][0]["seconds"] = seconds
    (tmp_path / "old.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="seconds of 'torch' that are missing or not positive"):
        read_bench(tmp_path / "old.json")


def test_an_earlier_run_without_anything_in_common_is_refused(tmp_path):
    earlier = read_bench(written(tmp_path / "old.json", [timing()]))
    contenders = [one for one in CONTENDERS if one.name == "torch"]
    check_common(earlier, [CASE], contenders)
    for cases, chosen in (([replace(CASE, batch_size=8)], contenders), ([CASE], CONTENDERS[3:])):
        with pytest.raises(ConfigError, match=r"of this run\. Received: predict"):
            check_common(earlier, cases, chosen)


# The command


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """The command, in which measuring a contender gives a planted timing."""
    planted = {"hot": SECONDS, "rested": SECONDS}
    measurement = sys.modules["pymobilenet.bench.measure"]

    def measure(case, contenders, *_):
        return [timing(**planted, contender=one.name, case=case) for one in contenders]

    monkeypatch.setattr(measurement, "measure", measure)
    monkeypatch.setattr("pymobilenet.bench.gemm_peak", lambda names: dict.fromkeys(names, 150.0))

    def run(out, *more, **series):
        planted.update(hot=SECONDS, rested=SECONDS)
        planted.update(series)
        arguments = ["--contender", "torch", "--width-mult", "0.1", "--batch-size", "4"]
        words = ["bench", *arguments, "--job", "predict", "--out", tmp_path / out, *more]
        return CliRunner().invoke(app, list(map(str, words)))

    assert run("old").exit_code == 0
    return run


def test_the_command_exits_with_1_and_names_what_is_slower(bench, tmp_path):
    old = tmp_path / "old/bench.json"
    result = bench("new", "--compare", old, hot=scaled(SECONDS, 1.3))
    assert result.exit_code == 1
    assert f"slower than in {old}: torch, {CASE}, hot: 1.30" in result.stderr
    assert (tmp_path / "new/bench.json").exists()


def test_the_command_exits_with_0_within_the_spread(bench, tmp_path):
    old = tmp_path / "old/bench.json"
    result = bench("new", "--compare", old, rested=scaled(NOISY, 1.25))
    assert result.exit_code == 0, result.output
    assert f"Nothing is slower than in {old} beyond the spread" in result.stdout


def test_the_command_does_not_judge_times_of_another_processor(bench, tmp_path):
    old = tmp_path / "old/bench.json"
    values = json.loads(old.read_text())
    values["about"]["processor"] = "a Z80"
    old.write_text(json.dumps(values))
    result = bench("new", "--compare", old, hot=scaled(SECONDS, 1.3))
    assert result.exit_code == 0, result.output
    assert "1.30" in result.stdout
    assert "nothing is judged: processor: a Z80 there" in result.stderr


def test_the_command_does_not_replace_what_it_compares_with(bench, tmp_path):
    before = (tmp_path / "old/bench.json").read_bytes()
    result = bench("old", "--compare", tmp_path / "old/bench.json")
    assert result.exit_code == 2
    assert "--out must be another folder" in result.stderr
    assert (tmp_path / "old/bench.json").read_bytes() == before


def test_the_command_refuses_another_file_before_it_measures(bench, tmp_path):
    (tmp_path / "other.json").write_text("{}")
    result = bench("new", "--compare", tmp_path / "other.json")
    assert result.exit_code == 2
    assert "ConfigError" in result.stderr
    assert not (tmp_path / "new").exists()
