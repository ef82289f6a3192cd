"""Memory of a long-lived process does not grow, and Julia's lack of it is a Python exception."""

import sys

import pytest
from julia_processes import run

pytestmark = pytest.mark.julia

RESIDENT = """
def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
"""


@pytest.mark.parametrize("count", [600, pytest.param(2500, marks=pytest.mark.soak)])
def test_models_that_are_dropped_are_collected(count):
    code = (
        RESIDENT
        + f"""
small = MobileNetConfig("v1", 0.25, resolution=32, num_classes=10)
julia, state = backend("julia"), backend("numpy").build(small, dtype="float64").get_state()
state = {{name: tensor.astype(np.float32) for name, tensor in state.items()}}
grown = []
for number in range({count} + 1):
    julia.from_state(small, state).predict(x[:1])
    if number in (100, {count}): grown.append(resident())
print(json.dumps(grown[1] - grown[0]))
"""
    )
    assert_flat(run(code, timeout=900))


@pytest.mark.soak
@pytest.mark.parametrize(
    "call", ["model.predict(x)", "frozen(x)", "model.loss_and_grads(x, y)", "model.step(x, y, 0.0)"]
)
def test_calls_leave_no_memory_behind(call):
    code = (
        RESIDENT
        + f"""
model = backend("julia").build(config); frozen = model.freeze(); model.set_optimizer(TrainConfig())
x, y, grown = x[:2], y[:2], []
for number in range(10001):
    {call}
    if number in (100, 10000): grown.append(resident())
print(json.dumps(grown[1] - grown[0]))
"""
    )
    assert_flat(run(code, timeout=900))


def assert_flat(megabytes):
    sys.stdout.write(f"resident memory above that of the first hundred: {megabytes:.0f} MB\n")
    assert megabytes < 150


def test_a_lack_of_memory_in_julia_is_an_exception_and_the_backend_lives_on():
    code = """
import resource
from pymobilenet.backends.julia.interop import translate_julia_errors
from pymobilenet.errors import JuliaError
julia = backend("julia"); model = julia.build(MobileNetConfig(resolution=32, num_classes=10))
expected, large, labels = model.predict(x), np.zeros((3000, 3, 64, 64), np.float32), np.zeros(3000)
address_space = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (address_space + 2**29, resource.RLIM_INFINITY))
def allocate():
    with translate_julia_errors(): julia.main.zeros(julia.main.Float32, 2**45)
said = []
for call in (allocate, lambda: model.predict(large), lambda: model.activations(large),
             lambda: model.loss_and_grads(large, labels.astype(int))):
    try: call()
    except JuliaError as error: said.append(str(error))
    assert np.array_equal(model.predict(x), expected)
print(json.dumps(said))
"""
    said = run(code)
    assert len(said) == 4
    assert all("OutOfMemoryError" in each for each in said)
