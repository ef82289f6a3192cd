"""Interop between Python and Julia: memory, errors, signals, threads, import order."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pymobilenet import MobileNetConfig, backend
from pymobilenet.errors import BackendUnavailable, JuliaError

pytestmark = pytest.mark.julia

CONFIG = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=7)

TRAIN = """
import numpy as np
from pymobilenet import MobileNetConfig, TrainConfig, backend
config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=7)
images, labels = np.ones((2, 3, 32, 32), np.float32), np.array([1, 2])
images[1] = -1
model = backend("julia").build(config)
model.set_optimizer(TrainConfig())
"""


def run(code, **environment):
    """Run Python code in a fresh process, warnings as errors; its standard output as JSON."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = f"status {process.returncode}\n{process.stdout}\n{process.stderr}"
    assert process.returncode == 0, output
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("first", ["torch", "julia"])
def test_torch_and_julia_work_in_one_process_in_either_import_order(first):
    second = {"torch": "julia", "julia": "torch"}[first]
    code = f"""
import json, numpy as np
from pymobilenet import MobileNetConfig, TrainConfig, backend
a, b = backend("{first}"), backend("{second}")
config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=7)
images = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
labels = np.arange(4)
losses = []
for framework in (a, b):
    model = framework.build(config)
    model.set_optimizer(TrainConfig())
    losses.append([model.step(images, labels, 0.1)[0] for _ in range(5)])
print(json.dumps(losses))
"""
    first_losses, second_losses = run(code)
    # Only the first step is compared: later ones drift, and are tested in parity/.
    assert first_losses[0] == pytest.approx(second_losses[0], rel=1e-5)
    assert np.isfinite(first_losses + second_losses).all()


def test_the_default_is_one_thread_per_core_and_the_environment_overrides_it():
    code = (
        TRAIN + "import json, os; print(json.dumps([backend('julia').threads(), dict(os.environ)]))"
    )
    threads, environment = run(code)
    assert threads["julia"] == os.cpu_count()
    assert not any(name.startswith("PYTHON_JULIACALL") for name in environment)
    threads, _ = run(code, PYTHON_JULIACALL_THREADS="1", PYTHON_JULIACALL_HANDLE_SIGNALS="no")
    assert threads["julia"] == 1
    threads, _ = run(code, JULIA_NUM_THREADS="1")
    assert threads["julia"] == 1


def test_ctrl_c_raises_keyboard_interrupt():
    code = (
        TRAIN
        + """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore SIGINT
model.step(images, labels, 0.1)
print("ready", flush=True)
try:
    while True:
        model.step(images, labels, 0.1)
except KeyboardInterrupt:
    print("interrupted", model.get_state()["optimizer.step"] > 0, flush=True)
"""
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert process.stdout.readline() == "interrupted True\n"
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - started < 20
    finally:
        process.kill()
        process.stdout.close()


def test_a_numpy_array_is_passed_to_julia_without_a_copy():
    julia = backend("julia")
    array = np.arange(24.0).reshape(2, 3, 4)
    wrapped = julia.wrap(array)
    assert int(julia.main.UInt(julia.main.pointer(wrapped))) == array.ctypes.data
    assert julia.main.size(wrapped) == (4, 3, 2)
    array[1, 2, 3] = -5
    assert wrapped[3, 2, 1] == -5


def test_a_julia_array_is_viewed_in_numpy_without_a_copy():
    julia = backend("julia")
    model = julia.build(CONFIG)
    weight = model.model.stem.conv.weight
    view = np.asarray(weight).T
    assert view.ctypes.data == int(julia.main.UInt(julia.main.pointer(weight)))
    assert view.shape == (8, 3, 3, 3)
    assert view.flags.c_contiguous
    weight[0, 0, 0, 0] = 42
    assert view[0, 0, 0, 0] == 42


def test_gradients_are_views_that_keep_julias_arrays_alive():
    julia = backend("julia")
    model = julia.build(CONFIG)
    images = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    _, grads = model.loss_and_grads(images, np.arange(4))
    assert all(grad.base is not None and grad.flags.c_contiguous for grad in grads.values())
    copies = {name: grad.copy() for name, grad in grads.items()}
    for _ in range(3):
        model.loss_and_grads(images, np.arange(4))
        gc.collect()
        julia.main.GC.gc()
    assert all(np.array_equal(grads[name], copies[name]) for name in copies)


def test_a_julia_error_is_raised_in_python_with_its_text():
    julia = backend("julia")
    model = julia.build(CONFIG)
    with pytest.raises(JuliaError, match=r"images must be.*Received"):
        model._predict(np.zeros((2, 4, 32, 32), np.float32))


def test_a_frozen_model_raises_julia_errors_and_works_afterwards():
    frozen = backend("julia").build(CONFIG)._freeze()
    images = np.ones((2, 3, 32, 32), np.float32)
    before = frozen(images)
    with pytest.raises(JuliaError, match=r"images must be finite.*Received: NaN"):
        frozen(images * np.float32("nan"))
    assert np.array_equal(frozen(images), before)


def test_a_frozen_model_may_be_called_from_several_threads():
    frozen = backend("julia").build(CONFIG).freeze()
    images = np.random.default_rng(0).normal(size=(12, 3, 32, 32)).astype(np.float32)
    expected = [frozen(images[k : k + 1]) for k in range(12)]

    def is_reproduced(k):
        return all(np.array_equal(frozen(images[k : k + 1]), expected[k]) for _ in range(50))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(is_reproduced, range(12)))
    assert not np.array_equal(expected[0], expected[1])


def test_a_frozen_models_logits_are_owned_by_python():
    frozen = backend("julia").build(CONFIG).freeze()
    logits = frozen(np.ones((2, 3, 32, 32), np.float32))
    copy = logits.copy()
    frozen(np.zeros((2, 3, 32, 32), np.float32))
    assert logits.base is None
    assert np.array_equal(logits, copy)


def test_a_julia_that_does_not_start_is_reported():
    code = """
import json
from pymobilenet import backend
from pymobilenet.errors import BackendUnavailable
try:
    backend("julia")
except BackendUnavailable as error:
    print(json.dumps(str(error)))
"""
    message = run(code, PYTHON_JULIACALL_EXE="/no/such/julia", PYTHON_JULIACALL_PROJECT=os.getcwd())
    assert "PYTHON_JULIACALL_EXE" in message
    assert issubclass(BackendUnavailable, RuntimeError)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_python_and_julia_write_the_same_bytes_including_the_probe(tmp_path, dtype):
    model = backend("julia").build(CONFIG, seed=11, dtype=dtype)
    by_julia, by_python = tmp_path / "julia.safetensors", tmp_path / "python.safetensors"
    model.backend.julia.save(str(by_julia), model.model)
    model.save(by_python)
    assert by_julia.read_bytes() == by_python.read_bytes()


def test_julia_builds_the_same_initial_weights_from_a_seed():
    julia = backend("julia")
    julia_model = julia.julia.MobileNet(
        julia.julia.MobileNetConfig(width_mult=0.25, num_classes=7), seed=11
    )
    expected = backend("numpy").build(
        MobileNetConfig(width_mult=0.25, num_classes=7), seed=11, dtype="float64"
    )
    state = {str(name): np.asarray(array).T for name, array in julia.julia.get_state(julia_model)}
    assert list(state) == list(expected.get_state())
    for name, tensor in expected.get_state().items():
        assert np.array_equal(state[name], tensor), name


def test_a_project_without_mobilenets_is_named_in_the_error(tmp_path):
    import juliapkg

    for name in ("Project.toml", "Manifest.toml"):
        text = (Path(juliapkg.project()) / name).read_text()
        lines = [line for line in text.splitlines() if not line.startswith("MobileNets = ")]
        (tmp_path / name).write_text("\n".join(lines))
    code = """
import json
from pymobilenet import backend
from pymobilenet.errors import BackendUnavailable
try:
    backend("julia")
except BackendUnavailable as error:
    print(json.dumps(str(error)))
"""
    exe = juliapkg.executable()
    message = run(code, PYTHON_JULIACALL_EXE=exe, PYTHON_JULIACALL_PROJECT=str(tmp_path))
    assert "Package MobileNets not found in current path" in message
    assert f"The project {tmp_path} must contain MobileNets and PythonCall" in message


def test_a_mobilenets_whose_init_fails_is_not_used(tmp_path):
    import juliapkg

    for name in ("Project.toml", "Manifest.toml"):
        text = (Path(juliapkg.project()) / name).read_text()
        package_path = r"(\[\[deps\.MobileNets\]\][\s\S]*?\npath = ).*"
        (tmp_path / name).write_text(re.sub(package_path, rf'\g<1>"{tmp_path}/fake"', text))
    (tmp_path / "fake" / "src").mkdir(parents=True)
    module = 'module MobileNets\n__init__() = error("older than the project")\nend\n'
    (tmp_path / "fake" / "src" / "MobileNets.jl").write_text(module)
    uuid = "7f1d4893-4abf-4eca-9caf-155e6bcc6c4d"
    project = f'name = "MobileNets"\nuuid = "{uuid}"\nversion = "0.1.0"\n'
    (tmp_path / "fake" / "Project.toml").write_text(project)
    code = """
import json
from pymobilenet import backend
from pymobilenet.errors import BackendUnavailable
try:
    backend("julia")
except BackendUnavailable as error:
    print(json.dumps(str(error)))
"""
    exe = juliapkg.executable()
    message = run(code, PYTHON_JULIACALL_EXE=exe, PYTHON_JULIACALL_PROJECT=str(tmp_path))
    assert "MobileNets.jl could not be loaded: InitError: older than the project" in message


@pytest.mark.parametrize("call", ['backend_with("Flux", "JLD2")', "sysimage()", "blas()"])
def test_whatever_uses_julia_first_starts_it_with_this_projects_options(call):
    # an import of juliacall starts Julia with its own, and warns where torch was imported before
    code = f"import torch; from pymobilenet.backends.julia import runtime; runtime.{call}"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
