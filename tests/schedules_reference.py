"""A reference implementation of every schedule, without code of the package.

`python tests/schedules_reference.py` writes julia/test/vectors/schedules.json, to which both
languages are held.
"""

import json
from fractions import Fraction
from math import factorial
from pathlib import Path

VECTORS = Path(__file__).parents[1] / "julia/test/vectors/schedules.json"

CASES = [
    {"schedule": "constant", "rate": 0.1, "steps": 3},
    {"schedule": "constant", "rate": 0.1, "warmup_steps": 7, "steps": 20},
    {"schedule": "step", "rate": 0.045, "step_size": 3, "gamma": 0.98, "steps": 40},
    {"schedule": "step", "rate": 0.1, "step_size": 1, "gamma": 0.7, "warmup_steps": 5, "steps": 60},
    {"schedule": "milestones", "rate": 0.1, "milestones": [4, 9, 10], "gamma": 0.2, "steps": 20},
    {"schedule": "milestones", "rate": 0.1, "milestones": [2], "warmup_steps": 3, "steps": 12},
    {"schedule": "cosine", "rate": 0.3, "steps": 37},
    {"schedule": "cosine", "rate": 0.1, "final_rate": 1e-4, "warmup_steps": 6, "steps": 101},
    {"schedule": "one_cycle", "rate": 0.4, "steps": 100},
    {"schedule": "one_cycle", "rate": 0.4, "pct_start": 0.21, "steps": 33, "warmup_steps": 4},
    {"schedule": "one_cycle", "rate": 0.4, "pct_start": 0.0, "div_factor": 3.0, "steps": 9},
    {"schedule": "one_cycle", "rate": 0.4, "pct_start": 1.0, "final_div_factor": 7.0, "steps": 9},
    {"schedule": "one_cycle", "rate": 0.4, "steps": 1},
]
DEFAULTS = {
    "steps": 200,
    "warmup_steps": 0,
    "gamma": 0.1,
    "final_rate": 0.0,
    "pct_start": 0.3,
    "div_factor": 25.0,
    "final_div_factor": 1e4,
}

COSINE = [float(Fraction(1, factorial(n))) for n in range(0, 20, 2)]
SINE = [float(Fraction(1, factorial(n))) for n in range(1, 21, 2)]


def alternating(coefficients, square):
    """c0 - s (c1 - s (c2 - ...)), from the inside out."""
    inner = 0.0
    for coefficient in coefficients[::-1]:
        inner = coefficient - square * inner
    return inner


def cosine_of_pi_times(x):
    mirrored = x > 0.5
    x = 1.0 - x if mirrored else x
    if x > 0.25:
        angle = (0.5 - x) * 3.141592653589793
        value = alternating(SINE, angle * angle) * angle
    else:
        angle = x * 3.141592653589793
        value = alternating(COSINE, angle * angle)
    return 0.0 - value if mirrored else value


def half_wave(start, end, fraction):
    return end + (start - end) / 2.0 * (1.0 + cosine_of_pi_times(fraction))


def power(base, exponent):
    """The squares of `base` that the exponent's binary digits name, multiplied from the lowest."""
    product, square = 1.0, base
    for digit in reversed(f"{exponent:b}"):
        product = product * square if digit == "1" else product
        square = square * square
    return product


def after_warmup(case, t):
    rate, length = case["rate"], max(case["steps"] - case["warmup_steps"], 1)
    if case["schedule"] == "constant":
        return rate
    if case["schedule"] == "step":
        return rate * power(case["gamma"], t // case["step_size"])
    if case["schedule"] == "milestones":
        return rate * power(case["gamma"], len([at for at in case["milestones"] if at <= t]))
    if case["schedule"] == "cosine":
        return half_wave(rate, case["final_rate"], t / length if t < length else 1.0)
    lowest = rate / case["div_factor"]
    top, end = case["pct_start"] * length - 1.0, length - 1
    if t < top:
        return half_wave(lowest, rate, t / top)
    fraction = 0.0 if end - top <= 0 else (t - top) / (end - top)
    return half_wave(rate, lowest / case["final_div_factor"], min(fraction, 1.0))


def rates(case):
    """Of every step of the run, and of one after it."""
    case = DEFAULTS | case
    warm = case["warmup_steps"]
    rising = [after_warmup(case, 0) * ((t + 1) / (warm + 1)) for t in range(warm)]
    return rising + [after_warmup(case, t) for t in range(case["steps"] + 1 - warm)]


def main():
    cases = [{"config": case, "rates": [rate.hex() for rate in rates(case)]} for case in CASES]
    about = "Rates, see pymobilenet/training/schedules.py: the float64 of each step, as C's %a."
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    VECTORS.write_text(f'{{\n "about": {json.dumps(about)},\n "cases": [\n{lines}\n ]\n}}\n')


if __name__ == "__main__":
    main()
