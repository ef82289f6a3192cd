"""How good is `compare`? Pairs that are the same model, and pairs with one planted fault.

    PYTHONPATH=tests python -m parity.mutation_score [NUMBER OF RANDOM NETS]

Prints a table: how many faults were caught, located and diagnosed, and how many correct pairs were
accused. Without Julia, only the faults between torch modules are planted.
"""

import sys
import time

from diff.nets import FAULTS, Net, images

from parity import random_nets
from parity.flux_faults import plant, ported_pair
from pymobilenet.backends import backend, why_unavailable
from pymobilenet.parity import compare


def score_torch():
    """Faults of the table, torch against torch: (planted, caught, located, diagnosed)."""
    caught = located = diagnosed = 0
    for fault in FAULTS:
        report = compare(Net(), fault.net(), inputs=images())
        faults = report.comparisons[0].faults
        names = [x.name for each in faults for x in (each.first, each.second) if x is not None]
        caught += not report.passed
        located += any(name.partition(".")[0] == fault.layer for name in names)
        diagnosed += bool(faults) and faults[0].name == fault.difference
    return len(FAULTS), caught, located, diagnosed


def score_flux(count, main):
    """Random nets, torch against Flux: (pairs, accused), (planted, caught, located, diagnosed)."""
    accused = planted = caught = located = diagnosed = 0
    for seed in range(count):
        report = compare(*ported_pair(seed, main), inputs=random_nets.images())
        if not report.passed:
            accused += 1
            print(f"seed {seed}: a correct pair was accused\n{report}", flush=True)
        pair = plant(seed, main)
        if pair is None:
            continue
        report = compare(*pair[:2], inputs=random_nets.images())
        faults = report.comparisons[0].faults
        planted += 1
        caught += not report.passed
        located += len(faults) == 1
        diagnosed += bool(faults) and faults[0].name == pair[2]
        if not faults or faults[0].name != pair[2]:
            print(f"seed {seed}: {pair[2]} was not diagnosed\n{report}", flush=True)
    return (count, accused), (planted, caught, located, diagnosed)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    start = time.monotonic()
    rows = [("torch and torch", *score_torch())]
    if why_unavailable("julia") is None:
        agreement, faults = score_flux(count, backend("julia").main)
        rows.append(("torch and Flux", *faults))
        print(f"{agreement[0]} correct pairs of torch and Flux: {agreement[1]} accused")
    else:
        print("NOT RUN: no Julia, so no Flux model was compared.")
    print(f"{'faults':16} planted  caught  located  diagnosed")
    for name, *numbers in rows:
        print(f"{name:16} {numbers[0]:7} {numbers[1]:7} {numbers[2]:8} {numbers[3]:10}")
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
