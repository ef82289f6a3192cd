"""The pytest plugin: what its users see, and what it costs those who do not use it."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

TEST = """
import numpy as np
import torch
from torch import nn

def models(eps):
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6())
    return first, nn.Sequential(first[0], nn.BatchNorm2d(8, eps=eps), first[2])

images = np.random.default_rng(0).standard_normal((4, 3, 16, 16))

def test_same(assert_same_model):
    assert_same_model(*models(1e-5), inputs=images)

def test_other(assert_same_model):
    assert_same_model(*models(1e-3), inputs=images)

def test_function():
    from pymobilenet.parity import assert_same_model
    assert_same_model(*models(1e-3), inputs=images)
"""


def plugin_options():
    """How pytest gets the plugin where this checkout was installed before it had one."""
    installed = {each.value for each in entry_points(group="pytest11")}
    return () if "pytest_pymobilenet" in installed else ("-p", "pytest_pymobilenet")


@pytest.mark.slow
def test_a_failure_is_readable(pytester):
    pytester.makepyfile(TEST)
    # in a process of its own: pytester takes modules such as torch out of this one again
    result = pytester.runpytest_subprocess(*plugin_options())
    result.assert_outcomes(passed=1, failed=2)
    lines = [
        "Sequential (1) and Sequential (2) DIFFER: 3 layers in float64*",
        "*first divergence: 1 (batch norm) / 1 (batch norm), error*",
        "*1 (batch norm) / 1 (batch norm): eps of a norm: in Sequential (2), eps is 0.001*",
        "*torch: BatchNorm2d(..., eps=...)",
    ]
    result.stdout.fnmatch_lines([*lines, "", "each layer: *report.html"])
    result.stdout.fnmatch_lines(["*test_function*", f"*{lines[0]}", *lines[1:]])
    result.stdout.no_fnmatch_line("*parity/diff*")  # no lines of this package in the traceback
    # once as the failure is told and, where pytest shortens no summary (CI is set), once more
    (line,) = {line for line in result.outlines if line.startswith("each layer: ")}
    assert "eps is 0.001" in Path(line.removeprefix("each layer: ")).read_text()


def test_the_plugin_is_declared_and_part_of_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"pymobilenet": "pytest_pymobilenet"}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "pytest_pymobilenet.py" in wheel["only-include"]


@pytest.mark.parametrize("module", ["pymobilenet", "torch", "numpy", "juliacall"])
def test_the_plugin_imports_nothing_before_it_is_used(module):
    code = f"import sys, pytest_pymobilenet; sys.exit({module!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0
