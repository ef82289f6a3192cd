"""Any Python thread may call any Julia model; forks and the end of the process never hang."""

import os
import struct
import sys

import pytest
from julia_processes import run

pytestmark = pytest.mark.julia


CALLS = """
import struct
from pymobilenet.backends.julia.interop import translate_julia_errors
from pymobilenet.backends.julia.threads import MAX_ADOPTED_THREADS
from pymobilenet.errors import WeightsError
julia = backend("julia"); model = julia.build(config); frozen = model.freeze()
model.set_optimizer(TrainConfig())
counts, said, fetched, same = [], [], [], []
def call():
    calls = [lambda: model.predict(x), lambda: frozen(x), lambda: model.loss_and_grads(x, y),
             lambda: model.step(x, y, 0.0)]
    for each in calls:
        for count in range(1, 301):
            each()
            if count % 100 == 0: julia.calls("collect", flag=True)
        counts.append(count)
def read_nested():
    try:
        with translate_julia_errors(): julia.julia.read_weights(NESTED)
    except WeightsError as error: said.append(str(error))
def wait_for_tasks():
    with translate_julia_errors():
        julia.main.seval("println('-' ^ 1_000_000); sleep(0.01)")
        fetched.append(julia.main.seval("fetch(Threads.@spawn 1 + 1)"))
def work(function):
    thread = threading.Thread(target=function); thread.start(); thread.join()
work(call)
work(read_nested); read_nested()
work(wait_for_tasks); wait_for_tasks()
expected = model.predict(x)
for _ in range(MAX_ADOPTED_THREADS + 20):
    work(lambda: same.append(np.array_equal(model.predict(x), expected)))
print(json.dumps([counts, said, fetched, same]))
"""


@pytest.fixture(scope="module", params=["1", "2"], ids=["1 Julia thread", "2 Julia threads"])
def calls(request, tmp_path_factory):
    """What one process has seen: several, because a start of Julia takes seconds."""
    path, header = tmp_path_factory.mktemp("a") / "nested", b'{"x":' + b"[" * 50_000
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    code = CALLS.replace("NESTED", repr(str(path)))
    names = ("counts", "said", "fetched", "same")
    return dict(zip(names, run(code, PYTHON_JULIACALL_THREADS=request.param), strict=True))


def test_one_thread_answers_while_the_main_thread_waits(calls):
    assert calls["counts"] == [300] * 4


def test_a_file_that_nests_without_end_is_an_error_in_any_thread(calls):
    assert len(calls["said"]) == 2
    assert all("not JSON" in each for each in calls["said"])


def test_julia_code_that_prints_sleeps_or_waits_for_a_task_goes_on(calls):
    assert calls["fetched"] == [2, 2]


def test_more_threads_than_julia_adopts_are_answered(calls):
    assert len(calls["same"]) > 80
    assert all(calls["same"])


STRESS = """
import gc, random
from pymobilenet.data import synthetic
julia = backend("julia")
configs = [MobileNetConfig(family, width, resolution=32, num_classes=10)
           for family, width in (("v1", 0.1), ("v1", 0.25), ("v2", 0.35))]
models, trained = ([julia.build(each) for each in configs] for _ in range(2))
logits = [model.predict(x) for model in models]
losses = [model.loss_and_grads(x, y)[0] for model in models]
data, train = synthetic(32, num_classes=10), TrainConfig(batch_size=8, steps=2, rate=1e-3)
end, counts, errors = time.monotonic() + SECONDS, [0] * 8, []
def work(number):
    choose = random.Random(number)
    while time.monotonic() < end and not errors:
        which, what = choose.randrange(3), choose.randrange(6)
        try:
            if what == 0:
                assert np.array_equal(models[which].predict(x), logits[which])
            elif what == 1:
                np.testing.assert_allclose(models[which].freeze()(x), logits[which], atol=1e-4)
            elif what == 2:
                assert abs(models[which].loss_and_grads(x, y)[0] - losses[which]) < 1e-9
            elif what == 3:
                assert np.isfinite(trained[which].fit(data, train).losses).all()
            elif what == 4:
                gc.collect()
            else:
                julia.calls("collect", flag=choose.random() < 0.3)
        except BaseException as error:
            errors.append(repr(error))
        counts[number] += 1
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([counts, errors]))
"""


@pytest.mark.slow
def test_eight_threads_and_three_models_for_a_minute_with_both_collectors_forced():
    counts, errors = run(STRESS.replace("SECONDS", "60"))
    assert not errors
    assert min(counts) > 0


@pytest.mark.soak
def test_the_same_for_ten_minutes():
    counts, errors = run(STRESS.replace("SECONDS", "600"), timeout=1200)
    sys.stdout.write(f"{sum(counts)} calls of 8 threads, load {os.getloadavg()[0]}\n")
    assert not errors
    assert min(counts) > 0


COUNTING = """
model = backend("julia").build(MobileNetConfig("v1", 0.5, resolution=64, num_classes=10))
x, y = np.ones((64, 3, 64, 64), np.float32), np.arange(64) % 10
model.loss_and_grads(x, y)
def count(end):
    counts, times = 0, []
    while not end():
        counts += 1
        if counts % 1000 == 0: times.append(time.monotonic())
    return counts, times
"""


def test_a_thread_counts_on_while_julia_computes():
    code = (
        COUNTING
        + """
calls = []
def work():
    for _ in range(3):
        start = time.monotonic(); model.loss_and_grads(x, y)
        calls.append((start, time.monotonic()))
thread = threading.Thread(target=work); thread.start()
_, times = count(lambda: not thread.is_alive())
slots = {(k, int(20 * (each - start) / (end - start)))
         for each in times for k, (start, end) in enumerate(calls) if start <= each < end}
print(json.dumps(len(slots)))
"""
    )
    slots = run(code, PYTHON_JULIACALL_THREADS="1")
    assert slots >= 0.8 * 3 * 20  # of each call's twentieths; a call that holds the GIL has none


@pytest.mark.soak
def test_a_call_costs_at_most_20_microseconds_in_any_thread():
    code = """
julia = backend("julia"); model = julia.build(config); nothing = [np.zeros(0, np.int64)]
def call(): return julia.calls("drop", inputs=nothing)
def cost():
    times = []
    for _ in range(30):
        start = time.perf_counter()
        for _ in range(1000): call()
        times.append(time.perf_counter() - start)
    return 1e3 * sorted(times)[15]
costs = [cost()]
thread = threading.Thread(target=lambda: costs.append(cost())); thread.start(); thread.join()
print(json.dumps(costs))
"""
    main, other = run(code)
    sys.stdout.write(
        f"microseconds of a call: {main:.1f} in the main thread, {other:.1f} in another, "
        f"load {os.getloadavg()[0]}\n"
    )
    assert max(main, other) <= 20


@pytest.mark.soak
def test_a_thread_that_counts_keeps_its_speed_while_julia_computes():
    code = (
        COUNTING
        + """
def seconds(number):
    end = time.monotonic() + number
    return lambda: time.monotonic() >= end
alone = count(seconds(5))[0]
is_over = threading.Event()
def work():
    while not is_over.is_set(): model.loss_and_grads(x, y)
thread = threading.Thread(target=work); thread.start()
busy = count(seconds(5))[0]
is_over.set(); thread.join()
print(json.dumps(busy / alone))
"""
    )
    share = run(code, PYTHON_JULIACALL_THREADS="1")
    sys.stdout.write(f"speed of a counting thread: {share:.0%}, load {os.getloadavg()[0]}\n")
    assert share >= 0.8


def test_a_julia_that_starts_in_a_worker_thread_leaves_ctrl_c_working():
    code = """
signal.signal(signal.SIGINT, signal.default_int_handler)
thread = threading.Thread(target=lambda: backend("julia").build(config).predict(x))
thread.start(); thread.join()
try:
    os.kill(os.getpid(), signal.SIGINT); time.sleep(20)
    print(json.dumps("not interrupted"))
except KeyboardInterrupt:
    print(json.dumps("interrupted"))
"""
    assert run(code) == "interrupted"


FORKS = """
import multiprocessing, torch, warnings
julia = backend("julia"); model = julia.build(config); frozen = model.freeze()
calls = [lambda: model.predict(x), lambda: frozen(x), julia.versions, lambda: julia.build(config)]
def child(results):
    said = []
    for call in calls:
        try: call()
        except BackendUnavailable as error: said.append(str(error))
    results.put(said)
context = multiprocessing.get_context("fork"); results = context.Queue()
process = context.Process(target=child, args=(results,)); process.start()
said = results.get(timeout=30); process.join(30)
pid = os.fork()
if pid == 0:
    sys.exit(5)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
class Numbers(torch.utils.data.Dataset):
    def __len__(self): return 20
    def __getitem__(self, place): return np.float32(place)
loaded = len(list(torch.utils.data.DataLoader(Numbers(), num_workers=2)))
pool = context.Pool(2); absolute = pool.map(abs, [-1, -2]); pool.terminate(); pool.join()
with multiprocessing.get_context("spawn").Pool(1) as pool:
    spawned = np.array_equal(pool.apply(frozen, (x,)), frozen(x))
print(json.dumps([said, process.exitcode, status, loaded, absolute, spawned]))
"""


@pytest.fixture(scope="module")
def forks():
    """What the forks and the children of one process have seen."""
    names = ("said", "exitcode", "status", "loaded", "absolute", "spawned")
    return dict(zip(names, run(FORKS), strict=True))


def test_a_fork_is_told_to_use_spawn_at_once_and_ends(forks):
    assert len(forks["said"]) == 4
    assert all('get_context("spawn")' in each for each in forks["said"])
    assert (forks["exitcode"], forks["status"]) == (0, 5)


def test_a_loader_and_a_pool_that_never_touch_julia_work_and_end(forks):
    assert (forks["loaded"], forks["absolute"]) == (20, [1, 2])


def test_a_spawned_process_calls_julia(forks):
    assert forks["spawned"]


@pytest.mark.parametrize(("status", "adopted"), [(0, 64), (3, 0)], ids=["direct", "handed over"])
def test_the_end_does_not_wait_for_ever_for_calls_in_flight(status, adopted):
    code = f"""
from pymobilenet.backends.julia import threads
threads.MAX_ADOPTED_THREADS = {adopted}
model = backend("julia").build(config)
def work():
    while True: model.loss_and_grads(x, y)
for _ in range(3): threading.Thread(target=work, daemon=True).start()
time.sleep(1)
print(json.dumps("leaving"), flush=True)
sys.exit({status})
"""
    assert run(code, status, timeout=120) == "leaving"
