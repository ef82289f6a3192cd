"""Python's signal handlers work while Julia runs, whenever they were set."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from julia_processes import SETUP, run

pytestmark = pytest.mark.julia

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGALRM", "SIGCHLD")


@pytest.mark.parametrize("order", ["before", "after"])
def test_handlers_are_called_whenever_they_were_set_and_masks_stay_as_they_are(order):
    code = f"""
import subprocess
def mask(): return signal.pthread_sigmask(signal.SIG_BLOCK, [])
seen, numbers, mask_before = [], [getattr(signal, name) for name in {NAMES}], mask()
def install():
    for number in numbers: signal.signal(number, lambda number, _: seen.append(int(number)))
if {order!r} == "before": install()
model = backend("julia").build(config); model.predict(x)
sleeper = subprocess.Popen(["sleep", "60"]); sleeper.terminate()
children = [mask() == mask_before, sleeper.wait(20)]
if {order!r} == "after": install()
for number in numbers:
    os.kill(os.getpid(), number)
    end = time.monotonic() + 20
    while number not in seen and time.monotonic() < end: model.predict(x)
print(json.dumps([sorted(set(seen)), sorted(map(int, numbers)), children]))
"""
    seen, expected, children = run(code)
    assert seen == expected
    assert children == [True, -signal.SIGTERM]


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_ctrl_c_while_julia_starts_is_a_keyboard_interrupt(seconds):
    code = (
        SETUP
        + """
signal.signal(signal.SIGINT, signal.default_int_handler)
print("ready", flush=True)
try:
    backend("julia")
    time.sleep(60)
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("interrupted", flush=True)
    print(backend("julia").build(config).predict(x).shape == (8, 10), flush=True)
    sys.exit(130)
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    answer = threading.Thread(target=lambda: answers.append(process.stdout.readline()), daemon=True)
    answers = []
    answer.start()
    while answer.is_alive():  # libjulia takes a signal that comes while it is initialized
        os.kill(process.pid, signal.SIGINT)
        answer.join(1)
    said, errors = process.communicate(timeout=200)
    assert process.returncode == 130, errors
    assert [*answers, said] == ["interrupted\n", "True\n"]
