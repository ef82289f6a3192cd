"""A `julia` that is too old, broken, slow or a launcher is named in one sentence, and the commands
go on without it."""

import os
import re
import stat

import pytest
from small_models import SMALL

from pymobilenet import backend
from pymobilenet.backends.julia import environment, executable
from pymobilenet.errors import BackendUnavailable
from pymobilenet.parity.recording import STANDARD_SCENARIOS

SCRIPTS = {
    "old": (
        'echo "julia version 1.6.7"',
        r"is julia version 1.6.7, and Julia 1.10 or later",
    ),
    "broken": ("exit 1", r"is not a Julia that works: `\S+ --version` ended with status 1"),
    "explained": ("echo no library >&2; exit 127", r"ended with status 127 \(no library\)"),
    "another program": ("echo hello", r"printed 'hello'"),
    "slow": ("exec sleep 60", r"did not answer within 1 s"),
    "no program": (None, r"does not run \(Exec format error\)"),
}


def program(folder, script, name="julia"):
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("\0" if script is None else f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def only(tmp_path, monkeypatch):
    """PATH with one julia and no network; a function of the julia's script."""

    def set_path(script):
        program(tmp_path / "bin", script)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        monkeypatch.setenv("PYTHON_JULIAPKG_PROJECT", str(tmp_path / "project"))
        monkeypatch.setenv("PYTHON_JULIAPKG_OFFLINE", "yes")
        monkeypatch.setenv("PYMOBILENET_DATA", str(tmp_path / "cache"))
        for name in ("EXE", "PROJECT"):
            monkeypatch.delenv(f"PYTHON_JULIACALL_{name}", raising=False)

    return set_path


@pytest.mark.parametrize("kind", SCRIPTS)
def test_the_problem_of_a_julia_is_one_line(tmp_path, monkeypatch, kind):
    script, rule = SCRIPTS[kind]
    monkeypatch.setattr(executable, "ANSWER_SECONDS", 1)
    problem = executable.problem(str(program(tmp_path, script)))
    assert re.search(rule, problem), problem
    assert "\n" not in problem


def test_a_launcher_of_juliaup_is_named_as_one(tmp_path):
    target = program(tmp_path / ".juliaup" / "bin", "exit 1", "julialauncher")
    (tmp_path / "julia").symlink_to(target)
    assert "(the launcher of juliaup) is not a" in executable.problem(str(tmp_path / "julia"))


def test_a_replaced_julia_is_checked_again(tmp_path):
    path = program(tmp_path, "echo julia version 1.9.0")
    assert "1.9.0" in executable.problem(str(path))
    program(tmp_path, "echo julia version 1.10.10")
    assert executable.problem(str(path)) is None


@pytest.mark.slow
def test_commands_work_without_julia_if_it_does_not_run(forks, only, tmp_path):
    only(SCRIPTS["old"][0])
    backend("numpy").build(SMALL, dtype="float64").save(tmp_path / "m.safetensors")
    for words, result in {
        ("doctor",): "GFLOP/s",
        ("verify", str(tmp_path / "m.safetensors")): "agrees",
        ("backends",): "torch  available",
    }.items():
        completed = forks.run(*words)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        assert result in completed.stdout
        text = " ".join(completed.stdout.split())
        assert "version 1.6.7" in text
        assert words != ("backends",) or "Install Julia 1.10 or later from https://" in text


REPLAY = """
import sys
from pymobilenet.cli import app
from pymobilenet.errors import ConfigError
from pymobilenet.parity import run

def replay(recordings, other, progress):
    raise ConfigError(f"replayed {len(recordings)} recordings with {other}")

run.replay = replay
app(["parity"])
"""


def test_parity_compares_with_all_recordings_if_julia_does_not_run(forks, only):
    only(SCRIPTS["old"][0])
    done = forks.start(REPLAY)
    done.wait()
    assert "is julia version 1.6.7, and Julia 1.10 or later is required" in done.stdout
    assert f"replayed {len(STANDARD_SCENARIOS)} recordings with torch" in done.stderr, done.stderr


@pytest.mark.slow
def test_a_julia_is_available_only_after_a_start_that_worked(forks, only, tmp_path):
    only('echo "julia version 1.10.8"')
    julia = str(tmp_path / "bin" / "julia")
    executable.find_julia()
    line = "julia  not started yet"
    assert line in forks.run("backends").stdout
    executable.record_start(julia)
    assert f"julia  available ({julia})" in forks.run("backends").stdout
    program(tmp_path / "bin", 'echo "julia version 1.10.8" # another')
    assert line in forks.run("backends").stdout


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("PYTHON_JULIACALL_THREADS", "abc", "auto, or 1 to 999"),
        ("PYTHON_JULIACALL_THREADS", "0", "auto, or 1 to 999"),
        ("JULIA_NUM_THREADS", "", "auto, or 1 to 999"),
        ("JULIA_NUM_THREADS", "2,0", "auto, or 1 to 999"),
        ("PYTHON_JULIACALL_HEAP_SIZE_HINT", "lots", "a positive number of bytes"),
        ("PYTHON_JULIACALL_HEAP_SIZE_HINT", "0G", "a positive number of bytes"),
        ("PYTHON_JULIACALL_HANDLE_SIGNALS", "maybe", "yes or no"),
        ("PYTHON_JULIACALL_EXE", "/bin/true", "must be set together.*only PYTHON_JULIACALL_EXE="),
    ],
)
def test_a_value_that_would_end_the_process_is_refused_before_the_start(
    monkeypatch, variable, value, rule
):
    monkeypatch.delenv("PYTHON_JULIACALL_PROJECT", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(BackendUnavailable, match=rule) as raised:
        environment.check_environment()
    assert variable in str(raised.value)


@pytest.mark.parametrize("value", ["auto", "1", "8", "auto,1", "2,auto", "3,1"])
def test_values_that_julia_accepts_are_accepted(monkeypatch, value):
    monkeypatch.setenv("PYTHON_JULIACALL_THREADS", value)
    monkeypatch.setenv("PYTHON_JULIACALL_HEAP_SIZE_HINT", "1.5G")
    environment.check_environment()


def test_a_system_image_that_does_not_load_is_refused(tmp_path):
    julia = program(tmp_path, "echo 'ERROR: could not load library' >&2; exit 1")
    image = tmp_path / "image.so"
    with pytest.raises(BackendUnavailable, match=r"must be a file"):
        executable.check_image(str(julia), str(image))
    image.write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(BackendUnavailable, match=r"does not start with this.*could not load lib"):
        executable.check_image(str(julia), str(image))


GROUPS = {
    "none": {},
    "version 2": {
        "proc/self/cgroup": "0::/job/step\n",
        "sys/fs/cgroup/job/memory.max": "2147483648\n",
        "sys/fs/cgroup/job/step/memory.max": "max\n",
    },
    "version 1": {
        "proc/self/cgroup": "9:cpu:/\n4:memory:/docker/abc\n",
        "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "2147483648\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    },
    "a container": {"sys/fs/cgroup/memory.max": "2147483648\n", "proc/self/cgroup": "0::/\n"},
}


@pytest.mark.parametrize("kind", GROUPS)
def test_the_heap_size_hint_fits_the_memory_of_the_cgroup(tmp_path, monkeypatch, kind):
    for name, text in GROUPS[kind].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    expected = machine if kind == "none" else min(machine, 2 << 30)
    assert environment.memory_limit(tmp_path) == expected
    monkeypatch.setattr(environment, "memory_limit", lambda: expected)
    assert environment.heap_size_hint() == min(4 << 30, expected // 4)
