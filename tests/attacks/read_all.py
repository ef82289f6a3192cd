"""Reads every file of a folder, in a process that may crash, run out of memory or run a program.

`python read_all.py FOLDER` prints two lines of JSON for each line of FOLDER/files.jsonl: the name
of the attack, and the outcome. After the imports the process may allocate `MEMORY_LIMIT` more.
"""

import json
import os
import resource
import sys
import tracemalloc
from pathlib import Path

import numpy as np
from attack import CONFIG, STATE
from typer.testing import CliRunner

from pymobilenet.cli import app
from pymobilenet.errors import PymobilenetError
from pymobilenet.formats import convert, load_any, save_as
from pymobilenet.formats.hdf5 import h5py_module
from pymobilenet.weights import check_state
from pymobilenet.weights.state import slots_of

MEMORY_LIMIT = 400 * 2**20
"""Bytes: a file may unpack to 64 MiB, of which there can be three copies."""

FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.")
TARGET_CONTENT = b"an existing file"


def forbid_programs():
    """Return a list to which every event is appended that starts a program or a connection."""
    events = []

    def hook(event, arguments):
        if event.startswith(FORBIDDEN):
            events.append(f"{event} {arguments!r}")

    sys.addaudithook(hook)
    return events


def limit_memory():
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_LIMIT, used + MEMORY_LIMIT))


def outcome(read):
    """The error, and whether it is one of the package; empty for a valid model."""
    try:
        loaded = read()
    except PymobilenetError as error:
        return {"is_package_error": True, "message": str(error)}
    except Exception as error:  # a defect, which the test reports
        return {"is_package_error": False, "message": f"{type(error).__name__}: {error}"}
    state = loaded.state
    check_state(loaded.config, state, state["classifier.weight"].dtype, slots_of(state))
    return {}


def run_command(command, path):
    """The outcome of `pymobilenet COMMAND PATH`."""
    backends = ["--backends", "numpy"] if command == "verify" else []
    result = CliRunner().invoke(app, [command, str(path), *backends])
    crash = "" if isinstance(result.exception, (SystemExit, type(None))) else repr(result.exception)
    is_package_error = result.exit_code == 2 and not crash
    return {"is_package_error": is_package_error, "message": crash or result.output}


def read_in_every_way(path, container, command, target):
    """The outcomes of reading, converting and printing one file, and its side effects."""
    target.write_bytes(TARGET_CONTENT)
    before = sorted(os.listdir(path.parent))
    tracemalloc.start()
    outcomes = {"loaded": outcome(lambda: load_any(path, container or None))}
    outcomes["peak"] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if container:
        outcomes["detected"] = outcome(lambda: load_any(path))
    if outcomes["loaded"]:
        outcomes["converted"] = outcome(lambda: convert(path, target, container or None))
    if command or (outcomes["loaded"] and command is not None):
        outcomes["printed"] = run_command(command or "info", path)
    outcomes["target_is_unchanged"] = target.read_bytes() == TARGET_CONTENT
    outcomes["new_files"] = sorted(set(os.listdir(path.parent)) - set(before))
    return outcomes


def print_line(line):
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


def main(folder):
    target = folder / "target.npz"
    for name in ("first.pt", "first.onnx"):  # imports what is imported late
        save_as(folder / name, CONFIG, STATE)
        load_any(folder / name)
    h5py_module()
    programs = forbid_programs()
    limit_memory()
    with np.errstate(all="ignore"):
        for line in (folder / "files.jsonl").read_text().splitlines():
            attack = json.loads(line)
            print_line({"attack": attack["name"]})
            path = folder / attack["file"]
            outcomes = read_in_every_way(path, attack["container"], attack["command"], target)
            print_line({**outcomes, "programs": programs})
            programs.clear()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
