"""Fresh processes that run Julia, for the tests of threads, signals, forks and the end."""

import json
import os
import re
import subprocess
import sys

SETUP = """
import json, os, signal, sys, threading, time
import numpy as np
from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.errors import BackendUnavailable
config = MobileNetConfig("v1", 0.1, resolution=32, num_classes=10)
x, y = np.ones((8, 3, 32, 32), np.float32), np.arange(8)
"""


def run(code, status=0, timeout=300, **environment):
    """Run code after `SETUP`; return what it prints in its last line, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SETUP + code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert not re.search(r"signal \(?\d", done.stderr), done.stderr  # as Julia reports a crash
    return json.loads(done.stdout.splitlines()[-1])
