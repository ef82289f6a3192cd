"""Measure in a fresh process: the time to the first result, and the memory.

`python -m pymobilenet.bench.process CONTENDER JOB BATCH CONFIG` prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pymobilenet.bench.contenders import Job, available
from pymobilenet.bench.measure import Case
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import BackendUnavailable, ConfigError

STEPS = 3
"""Runs of the job, after which memory no longer grows."""

SMALL_CONFIG = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100)


@dataclass(frozen=True)
class FreshProcess:
    """The measurement of one contender and job in a process of its own.

    Attributes:
        case: What was measured.
        contender: The name of the contender.
        first_result: Seconds from the start of the process to the end of the first run.
        memory: Bytes by which the peak of the resident memory exceeds that of the loaded runtime,
            which has run the same job once for a small net and two images. 0 but on Linux.
    """

    case: Case
    contender: str
    first_result: float
    memory: int


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "JULIA_NUM_THREADS")
"""The variables of torch (and here of ONNX Runtime and OpenVINO), NumPy, and Julia, read when a
library starts."""


def use_threads(count: int) -> None:
    """Set the number of threads of this process and of those that it starts.

    Args:
        count: Number of threads.

    Raises:
        ConfigError: A library that reads the number when it is loaded has been loaded.
    """
    loaded = [
        name for name in ("torch", "juliacall", "onnxruntime", "openvino") if name in sys.modules
    ]
    if loaded:
        raise ConfigError(f"threads must be chosen before {', '.join(loaded)} is imported")
    os.environ.update(dict.fromkeys(THREADS, str(count)))


def fresh_process(case: Case, contender: str) -> FreshProcess:
    """Run a case in a new process and return its measurement.

    Args:
        case: What to run.
        contender: The name of the contender.

    Raises:
        BackendUnavailable: The process failed; the message has the end of its output.
    """
    arguments = [contender, case.job, str(case.batch_size), case.config.to_json()]
    start = time.time()
    command = [sys.executable, "-m", "pymobilenet.bench.process", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BackendUnavailable(f"{contender}: {done.stderr.strip()[-500:]}")
    values = json.loads(done.stdout.splitlines()[-1])
    return FreshProcess(case, contender, values["first"] - start, values["memory"])


def _run(contender: str, job: str, batch: str, text: str) -> dict[str, float]:
    (program,) = available([contender])[0]
    make = getattr(program, job)
    rng = np.random.default_rng(0)

    def prepared(config: MobileNetConfig, count: int) -> Job:
        shape = (count, config.in_channels, config.resolution, config.resolution)
        images = rng.standard_normal(shape).astype(np.float32)
        return make(config, images, rng.integers(0, config.num_classes, count))

    prepared(SMALL_CONFIG, 2)()
    first, idle = time.time(), _peak_memory(reset=True)
    run = prepared(MobileNetConfig.from_json(text), int(batch))
    for _ in range(STEPS):
        run()
    return {"first": first, "memory": _peak_memory() - idle}


def _peak_memory(reset: bool = False) -> int:
    """Return the peak of the resident memory in bytes; 0 but on Linux.

    Args:
        reset: Set the peak to the present value first.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    print(json.dumps(_run(*sys.argv[1:])))  # noqa: T201
    sys.stdout.flush()
    os._exit(0)
