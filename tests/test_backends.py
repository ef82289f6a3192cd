"""Backends are selected by name, imported on first use, and have the same methods."""

import importlib
import inspect
import os
import subprocess
import sys

import pytest

from pymobilenet import available_backends, backend, backends
from pymobilenet.backends import BACKENDS, Backend, Model
from pymobilenet.errors import BackendUnavailable, ConfigError


def run_fresh(program, **environment):
    """The standard output of a fresh process, where warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    ).stdout


def test_available_backends_lists_every_backend():
    statuses = available_backends()
    assert list(statuses) == ["numpy", "torch", "julia"]
    for status in statuses.values():
        assert status.startswith(("available", "unavailable: ", "not started yet", "not installed"))
    assert statuses["numpy"].endswith("float64 only)")


@pytest.mark.parametrize("name", ["jax", "", "Torch", 3])
def test_an_unknown_name_is_refused_with_the_known_names(name):
    with pytest.raises(ConfigError, match=f"one of numpy, torch, julia. Received: {name!r}"):
        backend(name)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_backend_is_a_singleton(name):
    assert backend(name) is backend(name)
    assert backend(name).name == name
    assert set(backend(name).versions()) >= {"numpy", name}


@pytest.mark.parametrize(
    "error",
    [ImportError("No module named 'torch'"), OSError("libc10.so"), RuntimeError("a broken build")],
)
def test_a_framework_that_does_not_import_is_reported_with_the_reason(monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(BackendUnavailable, match=f"the torch backend.*{error}.*Install"):
        backend("torch")
    assert available_backends()["torch"].startswith("unavailable: the torch backend needs")


def test_the_commands_list_a_torch_that_raises_on_import_and_go_on(tmp_path):
    (tmp_path / "torch.py").write_text("raise RuntimeError('a broken build')")
    program = "import sys; from pymobilenet.cli import app; sys.argv[1:] = ['backends']; app()"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    said = " ".join(run_fresh(program, PYTHONPATH=path).split())
    assert "torch unavailable: the torch backend needs a package that does not import" in said
    assert "a broken build" in said
    assert "numpy available" in said


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import pymobilenet", ["torch", "juliacall", "juliapkg", "matplotlib", "typer"]),
        ("import pymobilenet; pymobilenet.backend('numpy')", ["torch", "juliacall", "juliapkg"]),
        ("import pymobilenet; pymobilenet.backend('torch')", ["juliacall", "juliapkg"]),
        ("import pymobilenet.backends.julia", ["torch", "juliacall", "juliapkg"]),
        ("import pymobilenet.training, pymobilenet.data", ["torch", "juliacall", "juliapkg"]),
        ("import pymobilenet.parity", ["torch", "juliacall", "juliapkg"]),
    ],
)
def test_a_framework_is_imported_on_first_use_only(program, absent):
    loaded = run_fresh(f"import sys; {program}; print(*sys.modules)").split()
    assert "pymobilenet" in loaded
    assert not set(absent) & set(loaded)


def test_two_backends_in_one_process_do_not_disturb_each_other():
    program = (
        "import numpy as np, pymobilenet as p\n"
        "c = p.MobileNetConfig(width_mult=0.1, num_classes=3)\n"
        "x = np.linspace(-1, 1, 6144).reshape(2, 3, 32, 32)\n"
        "models = [p.backend(n).build(c, dtype='float64') for n in ('torch', 'numpy', 'torch')]\n"
        "a, b, c = (m.predict(x) for m in models)\n"
        "assert (a == c).all() and np.allclose(a, b, rtol=1e-9)"
    )
    run_fresh(program)


def module_of(name):
    return importlib.import_module(f"pymobilenet.backends.{name}")


def subclass_of(name, base):
    classes = [
        member
        for _, member in inspect.getmembers(module_of(name), inspect.isclass)
        if issubclass(member, base) and member is not base
    ]
    assert len(classes) == 1
    return classes[0]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("base", [Model, Backend])
def test_a_backend_implements_the_abstract_methods_and_overrides_no_check(name, base):
    subclass = subclass_of(name, base)
    assert not subclass.__abstractmethods__
    mandatory = base.__abstractmethods__ | {"__init__"}
    public = {member for member in vars(base) if not member.startswith("_")} - mandatory
    optional = {
        "threads",
        "few_threads",
        "supports_dtype",
        "split",
        "fitting",
        "product",
        "compute_options",
        "options",
        "any_rank",
    }
    assert not (public - optional) & set(vars(subclass)), "checked once, in the base class"
    for method in base.__abstractmethods__:
        expected = list(inspect.signature(getattr(base, method)).parameters)
        parameters = list(inspect.signature(getattr(subclass, method)).parameters)
        fixed = [p for p in expected if p != "options"]
        assert parameters[: len(fixed)] == fixed, method
        if method != "_new":
            assert parameters == expected, method


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_module_has_status_and_load_backend(name):
    module = module_of(name)
    assert not inspect.signature(module.status).parameters
    for parameter in inspect.signature(module.load_backend).parameters.values():
        assert parameter.kind is parameter.VAR_KEYWORD or parameter.default is not parameter.empty
    assert isinstance(module.status(), str)
    assert subclass_of(name, Backend).name == name
