"""Julia in a process of its own: the same numbers, and Python outlives its crash."""

import errno
import itertools
import os
import signal
import socket
import sys
import tempfile
import threading
import time

import numpy as np
import pytest
from julia_processes import run
from typer.testing import CliRunner

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.backends.julia import isolated as isolated_backend
from pymobilenet.backends.julia.isolated import blocks
from pymobilenet.backends.julia.isolated.channel import CONTROL, Channel, new_control
from pymobilenet.backends.julia.isolated.process import LAST_LINES, last_words
from pymobilenet.backends.julia.project import julia_executable_and_project
from pymobilenet.cli import app
from pymobilenet.data import synthetic
from pymobilenet.errors import BackendCrashed, ConfigError, DataError, JuliaError

CONFIG = MobileNetConfig("v1", 0.1, resolution=32, num_classes=10)
X = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
Y = np.arange(8)
ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(7), "c": np.ones((0, 3), np.uint8)}


@pytest.fixture
def ends(tmp_path):
    """Both ends of a channel: the one that asks and the one that answers."""
    new_control(tmp_path)
    made = [
        Channel(connection, tmp_path, is_worker)
        for connection, is_worker in zip(socket.socketpair(), (False, True), strict=True)
    ]
    yield made
    for end in made:
        end.close()


def turn(sender, receiver, value, arrays):
    sender.send(value, arrays)
    return receiver.receive(10)


def address(array):
    return array.__array_interface__["data"][0]


def test_values_and_arrays_arrive_and_leave_no_file(ends, tmp_path):
    for sender, receiver in (ends, ends[::-1]):
        value, arrays = turn(sender, receiver, ["what", {"rate": 0.5}], ARRAYS)
        assert value == ["what", {"rate": 0.5}]
        for name, array in ARRAYS.items():
            assert np.array_equal(arrays[name], array)
            assert arrays[name].dtype == array.dtype
    assert os.listdir(tmp_path) == [CONTROL]


def test_a_block_is_used_again_when_its_arrays_are_dropped_and_not_before(ends):
    asking, answering = ends
    addresses = []
    kept = None
    for number in range(4):
        _, arrays = turn(asking, answering, number, {})
        _, arrays = turn(answering, asking, None, {"x": np.full(10_000, number)})
        addresses.append(address(arrays["x"]))
        if number == 0:
            kept = arrays["x"][5:]
        del arrays
    assert (kept == 0).all()
    assert len(set(addresses)) == 2  # one that is kept, and one for all others
    del kept
    turn(asking, answering, None, {})
    _, arrays = turn(answering, asking, None, {"x": np.ones(10_000)})
    assert address(arrays["x"]) in addresses


def test_blocks_that_are_not_used_are_given_up(ends):
    asking, answering = ends
    for number in range(40):
        turn(asking, answering, None, {"x": np.zeros(4096 * 2**number if number < 12 else 1)})
        turn(answering, asking, None, {})
    assert len(asking._written._free) <= blocks.MAX_FREE
    assert len(answering._read._memory) <= blocks.MAX_FREE + 1


def echo(end):
    """Answer every message with what it says."""
    while True:
        try:
            value, arrays = end.receive()
        except EOFError:
            return
        end.send(value, arrays)
        del arrays


def interrupt_at(number):
    """A trace function that raises KeyboardInterrupt at a line, counted, of the channel's code."""
    lines = itertools.count(1)

    def trace(frame, event, _):
        code = frame.f_code
        if not code.co_filename.endswith(("channel.py", "blocks.py")) or code.co_name == "__del__":
            return None
        if event == "line" and next(lines) == number:
            raise KeyboardInterrupt
        return trace

    return trace


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files not closed
def test_an_interrupt_at_any_line_loses_no_message(ends):
    asking, answering = ends
    thread = threading.Thread(target=echo, args=(answering,), daemon=True)
    thread.start()

    def ask(value, size):
        asking.finish(10)
        asking.send(value, {"x": np.full(size, value)})
        return asking.receive(10)

    interrupted = 0
    for number in itertools.count(1):
        sys.settrace(interrupt_at(number))
        try:
            ask(number, 100 * number)  # which needs new blocks from time to time
            break
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(None)
        value, arrays = ask(-number, 50)
        assert value == -number
        assert (arrays["x"] == -number).all()
    asking.close()
    thread.join(10)
    assert interrupted > 40


def test_where_shared_memory_is_full_the_temporary_folder_is_used(ends, tmp_path, monkeypatch):
    allocate, elsewhere = os.posix_fallocate, tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))

    def full(descriptor, offset, length):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if length > space[str(elsewhere) in name]:
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(descriptor, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", full)
    space = {False: 0, True: 10**6}
    _, arrays = turn(*ends, None, {"x": np.arange(1000)})
    assert np.array_equal(arrays["x"], np.arange(1000))
    space[True] = 0
    with pytest.raises(OSError, match=f"no space for .* bytes.*{elsewhere}"):
        ends[1].send(None, {"x": np.zeros(10**6)})
    assert os.listdir(elsewhere) == []


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


def test_options_reach_the_process(tmp_path, monkeypatch):
    started = []

    class Recorder:
        owner, about = -1, {}

        def __init__(self, *arguments):
            started.append(arguments)

    monkeypatch.setattr(isolated_backend, "Process", Recorder)
    (tmp_path / "Project.toml").touch()
    isolated_backend.IsolatedBackend("my-julia", tmp_path, threads=3, timeout=5.0)
    names = ("EXE", "PROJECT", "THREADS")
    variables = dict(zip(names, ("my-julia", str(tmp_path), "3"), strict=True))
    expected = {f"PYTHON_JULIACALL_{name}": value for name, value in variables.items()}
    assert started == [(expected, 5.0)]


@pytest.mark.parametrize("crash", ["[7] signal (11.1): Fault", "[7] signal 11 (1): Fault"])
def test_the_last_words_begin_where_julia_says_what_has_happened(crash):
    stack = [f"signal (11) thread (5) f{number} at a.c:3" for number in range(40)]
    said = last_words("\n".join(["earlier", crash, *stack]))
    assert said[:2] == [crash, stack[0]]
    assert len(said) == LAST_LINES
    assert last_words("\n".join(stack)) == stack[-LAST_LINES:]
    assert last_words("") == []


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
    with pytest.raises(ConfigError, match=r"kernels must be one of fast, reference.*'nope'"):
        isolated.build(CONFIG, kernels="nope")
    assert model.predict(X).shape == (8, 10)


@pytest.mark.julia
def test_commands_use_an_isolated_julia(isolated, tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    isolated.build(CONFIG).save(path)
    words = ["verify", str(path), "--backends", "julia", "--isolated"]
    verified = CliRunner().invoke(app, words)
    assert verified.exit_code == 0, verified.output
    assert verified.output.count("agrees") == 2
    monkeypatch.setattr("pymobilenet.data.open_cifar100", lambda *_: synthetic(64, num_classes=10))
    _, project = julia_executable_and_project()
    small = ["--dtype", "float64", "--width-mult", "0.1", "--stem-stride", "2", "--steps", "0"]
    words = ["parity", "--isolated", "--backends", f"julia,julia@{project}", *small]
    compared = CliRunner().invoke(app, words)
    backend(f"julia@{project}").close()
    assert compared.exit_code == 0, compared.output
    assert f"julia@{project}" in "".join(compared.output.split())


@pytest.mark.julia
def test_a_crash_is_an_error_with_julias_last_words_and_the_backend_goes_on(isolated):
    model = isolated.build(CONFIG)
    folder = isolated._process.folder
    os.kill(isolated._process.process.pid, signal.SIGSEGV)
    with pytest.raises(BackendCrashed, match="has ended, by SIGSEGV") as crashed:
        model.predict(X)
    assert "Segmentation fault" in str(crashed.value)
    with pytest.raises(BackendCrashed, match="Build or load the model again"):
        model.predict(X)
    assert isolated.build(CONFIG).predict(X).shape == (8, 10)
    assert not folder.exists()


@pytest.mark.julia
def test_a_call_that_takes_too_long_is_given_up_and_restart_starts_anew(isolated, monkeypatch):
    model = isolated.build(CONFIG)
    os.kill(isolated._process.process.pid, signal.SIGSTOP)
    monkeypatch.setattr(isolated._process, "_timeout", 0.5)
    with pytest.raises(BackendCrashed, match=r"did not answer within 0\.5 s and was ended"):
        model.predict(X)
    isolated.restart()
    assert isolated.build(CONFIG).predict(X).shape == (8, 10)


@pytest.mark.julia
def test_interrupts_end_the_wait_alone_and_forks_are_refused_and_a_kill_leaves_nothing():
    code = """
made = backend("julia", isolated=True)
model = made.build(config); expected = model.predict(x)
signal.signal(signal.SIGALRM, signal.default_int_handler)
interrupted = 0
for number in range(40):
    signal.setitimer(signal.ITIMER_REAL, 1e-4 * (1 + number))
    try:
        while True: model.loss_and_grads(x, y)
    except KeyboardInterrupt:
        interrupted += 1
    assert np.array_equal(model.predict(x), expected)
pid = os.fork()
if pid == 0:
    try: model.predict(x)
    except BackendUnavailable as error: sys.exit('get_context("spawn")' not in str(error))
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert np.array_equal(model.predict(x), expected)
process = made._process
print(json.dumps([interrupted, status, process.process.pid, str(process.folder)]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    interrupted, fork_status, pid, folder = run(code, -signal.SIGKILL)
    assert (interrupted, fork_status) == (40, 0)
    end = time.monotonic() + 20
    while (os.path.exists(folder) or os.path.exists(f"/proc/{pid}")) and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.exists(folder)
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.julia
@pytest.mark.soak
def test_a_step_takes_at_most_15_percent_longer_than_in_this_process(isolated):
    config = MobileNetConfig("v1", 0.25, resolution=32, num_classes=100, stem_stride=1)
    images = np.random.default_rng(0).standard_normal((128, 3, 32, 32)).astype(np.float32)
    labels = np.arange(128) % 100
    models = [each.build(config) for each in (backend("julia"), isolated)]
    times = {"step": ([], []), "predict": ([], [])}
    for model in models:
        model.set_optimizer(TrainConfig(optimizer="adam"))
    for _ in range(25):
        for place, model in enumerate(models):
            for name, call in (
                ("step", lambda model=model: model.step(images, labels, 1e-4)),
                ("predict", lambda model=model: model.predict(images)),
            ):
                call()
                start = time.perf_counter()
                call()
                times[name][place].append(time.perf_counter() - start)
    ratios = {}
    for name, pair in times.items():
        own, other = (1e3 * sorted(each)[len(each) // 2] for each in pair)
        ratios[name] = other / own
        sys.stdout.write(f"{name}: {own:.1f} ms in this process, {other:.1f} ms isolated\n")
    sys.stdout.write(f"load {os.getloadavg()[0]}\n")
    assert ratios["step"] <= 1.15
