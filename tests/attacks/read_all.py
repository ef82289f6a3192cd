"""Reads every file of a folder, in a process that may crash, run out of memory or run a program.

`python read_all.py FOLDER`: for each line of FOLDER/files.jsonl one line of JSON on the standard
output. After the imports the process may have so much more memory as `ROOM` says.
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

ROOM = 400 * 2**20
"""Bytes: a file may unpack to 64 MiB, which then are there three times."""

FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.")
KEPT = b"what stood here before"


def forbid_programs():
    """Make a note of whatever would leave this process."""
    found = []

    def hook(event, arguments):
        if event.startswith(FORBIDDEN):
            found.append(f"{event} {arguments!r}")

    sys.addaudithook(hook)
    return found


def limit_memory():
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))


def outcome(read):
    """What became of a file: the error's kind and text, or nothing for a valid model."""
    try:
        loaded = read()
    except PymobilenetError as error:
        return {"house": True, "text": str(error)}
    except Exception as error:  # which is what these tests are after
        return {"house": False, "text": f"{type(error).__name__}: {error}"}
    state = loaded.state
    check_state(loaded.config, state, state["classifier.weight"].dtype, slots_of(state))
    return {}


def commanded(command, path):
    """The message and status of `pymobilenet COMMAND PATH`."""
    backends = ["--backends", "numpy"] if command == "verify" else []
    done = CliRunner().invoke(app, [command, str(path), *backends])
    crash = "" if isinstance(done.exception, (SystemExit, type(None))) else repr(done.exception)
    return {"house": done.exit_code == 2 and not crash, "text": crash or done.output}


def examined(path, container, command, target):
    """All that happens to one file."""
    target.write_bytes(KEPT)
    before = sorted(os.listdir(path.parent))
    tracemalloc.start()
    found = {"loaded": outcome(lambda: load_any(path, container or None))}
    found["peak"] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if container:
        found["unnamed"] = outcome(lambda: load_any(path))
    if found["loaded"]:
        found["converted"] = outcome(lambda: convert(path, target, container or None))
    if command or (found["loaded"] and command is not None):
        found["told"] = commanded(command or "info", path)
    found["kept"] = target.read_bytes() == KEPT
    found["left"] = sorted(set(os.listdir(path.parent)) - set(before))
    return found


def say(line):
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
            told = json.loads(line)
            say({"begins": told["name"]})
            found = examined(folder / told["file"], told["container"], told["command"], target)
            say({**found, "programs": programs})
            programs.clear()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
