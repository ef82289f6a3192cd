"""The code beside ported weights loads them, without this package."""

import ast
import subprocess
import sys

import pytest
import torch
from diff.nets import SHAPE, Net, images
from typed_commands import run

from pymobilenet.parity import compare
from pymobilenet.parity.diff.loading_code import write_loading_code

SHAPE_OPTION = ("--shape", ",".join(map(str, SHAPE)))
LONG_LINES = ("--line-length", "300")
NET = """
import torch
from diff.nets import Net

def build():
    return Net()

def empty():
    net = Net()
    for parameter in net.parameters():
        parameter.data.zero_()
    return net
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_net.py").write_text(NET)
    return tmp_path


def executed(path):
    names = {"__file__": str(path), "__name__": "load"}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names


@pytest.mark.parametrize("spec", ["{}/my_net.py:empty", "my_net:empty"])
def test_the_python_code_builds_and_loads(folder, monkeypatch, spec):
    monkeypatch.syspath_prepend(folder)
    port = folder / "ported.pt"
    done = run(
        "diff", f"{folder}/my_net.py:build", spec.format(folder), *SHAPE_OPTION, "--port", port
    )
    assert done.exit_code == 0, done.output
    assert f"Written: {port}, {folder}/load_ported.py" in done.output
    code = executed(folder / "load_ported.py")
    assert compare(Net(), code["ported"](), inputs=images()).passed
    loaded = code["load"](Net())
    assert not loaded.training
    assert all(map(torch.equal, loaded.state_dict().values(), Net().state_dict().values()))
    text = (folder / "load_ported.py").read_text()
    assert "pymobilenet" not in text
    assert len(list(filter(None, text.splitlines()))) <= 16
    sys.modules.pop("my_net", None)


def test_the_code_is_formatted(folder):
    path = write_loading_code(f"{folder}/my_net.py:build", folder / "ported.pt", "torch")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "format",
            "--check",
            "--isolated",
            "--line-length",
            "300",
            path,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "dollar$x", '"""'])
def test_odd_names_are_written_as_text(tmp_path, name):
    path = write_loading_code(f"{tmp_path}/{name}.py:build", tmp_path / f"{name}.pt", "torch")
    tree = ast.parse(path.read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert f"{name}.pt" in texts
    assert f"{tmp_path}/{name}.py" in texts
    julia = write_loading_code(
        f"{tmp_path}/{name}.jl:build", tmp_path / "ported.jld2", "Flux"
    ).read_text()
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    assert f'include("{tmp_path}/{escaped}.jl")' in julia
    assert "ported() = load(build())" in julia


def test_a_model_that_is_no_function_is_loaded_only(tmp_path):
    path = write_loading_code("model.safetensors", tmp_path / "ported.pt", "torch")
    assert set(executed(path)) >= {"load"}
    assert "ported()" not in path.read_text()
