"""Draw the curves of a recipe's seeds from the logs in docs/results/, and print their statistics.

    python docs/figures/curves.py cifar100-transfer docs/curves.png

The margin of the equivalence test is that of docs/results.md, 1.5 points.
"""

import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pymobilenet.evaluation import read_runs, write_bands
from pymobilenet.evaluation.equivalence import equivalence
from pymobilenet.evaluation.run_logs import LOG

LOGS = Path(__file__).parent.parent / "results"
BACKENDS = ("torch", "julia")
MARGIN = 0.015


def seeds_of(recipe):
    """Backend -> the logs of its runs in one backend, by seed."""
    name = re.compile(rf"{re.escape(recipe)}-({'|'.join(BACKENDS)})-(\d+)\.jsonl")
    found = [match for match in (name.fullmatch(path.name) for path in LOGS.iterdir()) if match]
    found.sort(key=lambda match: int(match[2]))
    return {
        backend: [LOGS / match[0] for match in found if match[1] == backend] for backend in BACKENDS
    }


def main(recipe, picture):
    groups = {}
    with TemporaryDirectory() as folder:
        for backend, logs in seeds_of(recipe).items():
            for path in logs:
                run = Path(folder, path.stem)
                run.mkdir()
                shutil.copy(path, run / LOG)
            groups[backend] = read_runs([Path(folder, path.stem) for path in logs])
    write_bands(groups, picture)
    ends = {name: [run.values["val_accuracy"][-1] for run in runs] for name, runs in groups.items()}
    for name, values in ends.items():
        mean, deviation = 100 * np.mean(values), 100 * np.std(values, ddof=1)
        print(f"{name}: {len(values)} seeds, mean {mean:.2f} %, deviation {deviation:.2f}")
    print(equivalence(*ends.values(), margin=MARGIN))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
