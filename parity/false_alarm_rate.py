"""How often is a correct pair outside ten floors? The measurement behind `OUTSIDE_RATE`.

    python -m parity.false_alarm_rate [FIRST SEED] [SEEDS] [BATCH SIZE, a multiple of 3]

Takes steps in lockstep with pairs of correct programs in float64, and prints how many independent
errors are outside `USUAL_RATIO` floors, and how many verdicts on two steps each would fail.
"""

import dataclasses
import math
import sys
import time

import torch

from pymobilenet import MobileNetConfig, backend
from pymobilenet.data import synthetic
from pymobilenet.parity.false_alarms import allowed_outside, independent_error
from pymobilenet.parity.scenario import WORKING_RECIPES
from pymobilenet.parity.steps import StepInputs, compare_step, take_step
from pymobilenet.parity.tolerances import MAX_RATIO, USUAL_RATIO
from pymobilenet.training import Batches
from pymobilenet.weights import initial_state

CONFIG = MobileNetConfig(width_mult=0.125, resolution=32, num_classes=20, stem_stride=2)
PAIRS = (("torch", "channels_last"), ("numpy", "torch"), ("torch", "numpy"))
STEPS = 2


def build(name):
    """A model of a backend, or of torch in its other memory layout."""
    if name == "channels_last":
        return backend("torch").build(CONFIG, dtype="float64", memory_format=name)
    return backend(name).build(CONFIG, dtype="float64")


def verdict_rows(pair, train, data):
    """The rows of `STEPS` steps in lockstep, from the initial weights of the training seed."""
    leader, follower = map(build, pair)
    replicas = [build(name) for name in pair]
    leader.set_state(initial_state(CONFIG, train.seed, "float64"))
    leader.set_optimizer(train)
    batches = Batches(data, train, CONFIG, "float64")
    rows = []
    for step in range(STEPS):
        inputs = StepInputs(leader.get_state(), batches.at(step), train, step)
        expected = take_step(leader, inputs)
        received = {"follower": take_step(follower, inputs)}
        rows += compare_step(expected, received, replicas, inputs, has_failed=False)
    return rows


def measure(pair, seeds, batch_size):
    """Independent errors, those outside, verdicts, those that fail, and the largest ratio."""
    data = synthetic(num_images=8 * batch_size, num_classes=CONFIG.num_classes)
    errors = outside = verdicts = failed = 0
    largest = 0.0
    for seed in seeds:
        for recipe in WORKING_RECIPES:
            train = dataclasses.replace(recipe, seed=seed, batch_size=batch_size)
            rows = verdict_rows(pair, train, data)
            count = len({independent_error(row.key) for row in rows})
            beyond = {independent_error(row.key) for row in rows if row.ratio > USUAL_RATIO}
            worst = max(rows, key=lambda row: row.ratio)
            errors, outside, verdicts = errors + count, outside + len(beyond), verdicts + 1
            failed += worst.ratio > MAX_RATIO or len(beyond) > allowed_outside(count)
            largest = max(largest, worst.ratio)
            for name, step in sorted(beyond):
                print(f"{pair}, seed {seed}, {train.optimizer}: outside: {name}, step {step}")
    return errors, outside, verdicts, failed, largest


def upper_bound(outside, errors):
    """The upper end of the 95 % interval (one-sided) of a rate, by bisection of Poisson's law."""
    low, high = 0.0, 20.0 + 3.0 * outside
    for _ in range(60):
        mean = (low + high) / 2
        at_most = sum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(outside + 1))
        low, high = (mean, high) if at_most > 0.05 else (low, mean)
    return high / errors


def main():
    first, count, batch_size = map(int, (sys.argv[1:] + ["0", "10", "9"][len(sys.argv) - 1 :])[:3])
    torch.set_num_threads(1)
    start, errors, outside = time.monotonic(), 0, 0
    print(f"{'pair':28}  errors  outside  verdicts  failed  largest ratio")
    for pair in PAIRS:
        result = measure(pair, range(first, first + count), batch_size)
        errors, outside = errors + result[0], outside + result[1]
        texts = "{:7} {:8} {:9} {:7} {:14.2f}".format(*result)
        print(f"{' and '.join(pair):28} {texts}", flush=True)
    print(f"rate: {outside / errors:.1e}, at most {upper_bound(outside, errors):.1e} (95 %)")
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
