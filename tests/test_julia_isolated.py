"""Julia in a process of its own: the same numbers, and Python outlives its crash."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from julia_processes import run

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.backends.julia.isolated import blocks
from pymobilenet.backends.julia.project import julia_executable_and_project
from pymobilenet.data import synthetic
from pymobilenet.errors import BackendCrashed, ConfigError, DataError, JuliaError
from pymobilenet.parity import run_parity

CONFIG = MobileNetConfig("v1", 0.1, resolution=32, num_classes=10)
X = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
Y = np.arange(8)


def test_arrays_travel_in_a_block_and_outlive_its_file(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(7), "c": np.ones((0, 3), np.uint8)}
    received = blocks.read(blocks.Blocks(tmp_path, "x").write(arrays))
    assert os.listdir(tmp_path) == []
    for name, array in arrays.items():
        assert np.array_equal(received[name], array)
        assert received[name].dtype == array.dtype
    assert blocks.read(blocks.Blocks(tmp_path, "x").write({})) == {}


def test_an_option_that_needs_isolation_is_refused_without_it():
    with pytest.raises(ConfigError, match="threads requires isolated=True"):
        backend("julia", threads=2)
    with pytest.raises(ConfigError, match=r"must be one of isolated, executable.*Received: speed"):
        backend("julia", isolated=True, speed=1)
    with pytest.raises(ConfigError, match="the torch backend has no options"):
        backend("torch", isolated=True)
    with pytest.raises(ConfigError, match=r"must be one of numpy.*Received: 'torch@/somewhere'"):
        backend("torch@/somewhere")
    with pytest.raises(ConfigError, match=r"a folder with a Project\.toml. Received: '/nowhere'"):
        backend("julia@/nowhere")
    with pytest.raises(ConfigError, match="executable requires project"):
        backend("julia", isolated=True, executable="julia")


@pytest.fixture(scope="module")
def isolated():
    made = backend("julia", isolated=True)
    yield made
    made.close()


@pytest.mark.julia
def test_an_isolated_model_computes_what_one_in_this_process_does(isolated):
    own, other = backend("julia").build(CONFIG, seed=3), isolated.build(CONFIG, seed=3)
    assert np.array_equal(own.predict(X), other.predict(X))
    assert np.array_equal(own.freeze()(X), other.freeze()(X))
    (loss, grads), (other_loss, other_grads) = (m.loss_and_grads(X, Y) for m in (own, other))
    assert loss == other_loss
    assert all(np.array_equal(grads[name], other_grads[name]) for name in grads)
    train = TrainConfig(optimizer="adam", batch_size=8, steps=4)
    data = synthetic(32, num_classes=10)
    assert own.fit(data, train).losses == other.fit(data, train).losses
    state, other_state = own.get_state(), other.get_state()
    assert all(np.array_equal(state[name], other_state[name]) for name in state)


@pytest.mark.julia
def test_errors_keep_their_class_and_text(isolated):
    model = isolated.build(CONFIG)
    with pytest.raises(DataError, match="images must"):
        model.predict(X[:, :2])
    with pytest.raises(JuliaError, match=r"images must be.*Received"):
        model._predict(np.zeros((2, 4, 32, 32), np.float32))
    assert model.predict(X).shape == (8, 10)


@pytest.mark.julia
def test_a_crash_is_an_error_and_the_backend_goes_on(isolated):
    model = isolated.build(CONFIG)
    os.kill(isolated._process.process.pid, signal.SIGSEGV)
    with pytest.raises(BackendCrashed, match="has ended"):
        model.predict(X)
    with pytest.raises(BackendCrashed, match="Build or load the model again"):
        model.predict(X)
    assert isolated.build(CONFIG).predict(X).shape == (8, 10)


@pytest.mark.julia
def test_a_call_that_takes_too_long_is_given_up():
    made = backend("julia", isolated=True, timeout=60.0)
    model = made.build(CONFIG)
    os.kill(made._process.process.pid, signal.SIGSTOP)
    made._process._timeout = 0.5
    with pytest.raises(BackendCrashed, match=r"did not answer within 0\.5 s and was ended"):
        model.predict(X)
    made.close()


@pytest.mark.julia
def test_an_interrupt_ends_the_wait_alone():
    code = """
model = backend("julia", isolated=True).build(config); expected = model.predict(x)
signal.signal(signal.SIGALRM, signal.default_int_handler)
interrupted = 0
for number in range(40):
    signal.setitimer(signal.ITIMER_REAL, 1e-4 * (1 + number))
    try:
        while True: model.loss_and_grads(x, y)
    except KeyboardInterrupt:
        interrupted += 1
    assert np.array_equal(model.predict(x), expected)
print(json.dumps(interrupted))
"""
    assert run(code) == 40


@pytest.mark.julia
def test_two_julias_are_compared():
    _, project = julia_executable_and_project()
    pair = [backend("julia", isolated=True), backend(f"julia@{project}")]
    data = synthetic(64, num_classes=10)
    report = run_parity(pair, data, 0, ["float64"], [replace(CONFIG, stem_stride=2)])
    assert report.passed, report.first_divergence
    assert report.backends == ("julia", f"julia@{project}")
    pair[1].close()


@pytest.mark.julia
def test_the_folder_of_an_isolated_julia_is_removed():
    code = """
made = backend("julia", isolated=True)
folder = made._process.folder
made.build(config).predict(x)
print(json.dumps([os.path.isdir(folder), str(folder)]))
"""
    there, folder = run(code)
    assert there
    assert not os.path.isdir(folder)
