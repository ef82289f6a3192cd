"""Find a Julia that works, and remember which one was started.

A `julia` on PATH may be too old, broken, or juliaup's launcher, which may wait for a download:
every answer is waited for with a timeout.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from pymobilenet.backends.julia.bundle.info import processor_features
from pymobilenet.backends.julia.bundle.installed import (
    BUNDLE_VARIABLE,
    chosen_bundle,
    chosen_julia,
)
from pymobilenet.backends.julia.bundle.processes import check_processor
from pymobilenet.data.cache import cache_dir
from pymobilenet.errors import BackendUnavailable, DataError
from pymobilenet.files import atomic_write

DOWNLOAD_URL = "https://julialang-s3.julialang.org"
CONNECT_SECONDS = 3

ANSWER_SECONDS = 20.0
"""How long ``julia --version`` is waited for; it takes 0.1 s, and more on a network disk."""

OLDEST = (1, 10)
"""The oldest Julia that MobileNets.jl supports (``compat`` of julia/Project.toml)."""

SYSIMAGE_VARIABLE = "PYTHON_JULIACALL_SYSIMAGE"
"""juliacall's variable: the system image that Julia is started with."""

STARTS = "julia-starts.json"
"""The file of the cache that records the Julias that were started."""

HOW_TO_GET_JULIA = (
    "Install Julia 1.10 or later from https://julialang.org/downloads and have `julia` on PATH, "
    "or connect to the internet once: it is then downloaded automatically"
)


def unavailable() -> str | None:
    """Return why Julia cannot be used: no installed one works and none can be downloaded.

    Returns:
        The reason, or None if Julia is installed or can be downloaded.
    """
    if "juliacall" in sys.modules or find_julia() is not None:
        return None
    problems = "; ".join(filter(None, map(problem, _candidates()))) or "no Julia is installed"
    if _configured() is not None:
        return problems
    if os.environ.get("PYTHON_JULIAPKG_OFFLINE") == "yes":
        return f"{problems}, and PYTHON_JULIAPKG_OFFLINE=yes forbids downloading one"
    # S310: an https address of this module
    request = urllib.request.Request(DOWNLOAD_URL, method="HEAD")
    try:
        opener = urllib.request.build_opener()  # with the proxies of the environment
        opener.open(request, timeout=CONNECT_SECONDS).close()
    except urllib.error.HTTPError as error:  # an answer, whatever it says of the root
        error.close()
    except (OSError, http.client.HTTPException) as error:
        return f"{problems}, and {DOWNLOAD_URL} cannot be reached ({error})"
    return None


def find_julia() -> str | None:
    """Return the path of an installed Julia that works, or None.

    Looks at the environment variables, then at PATH, then at the Julia that juliapkg has
    downloaded.
    """
    return next((path for path in _candidates() if problem(path) is None), None)


def problem(path: str) -> str | None:
    """Return what is wrong with a Julia executable in one clause, or None if it can be used.

    juliaup itself, which installs a Julia when juliapkg calls it, can be used.

    Args:
        path: Path or name of the Julia executable.
    """
    bundle = chosen_bundle()
    if bundle is not None and path == bundle.executable and (reason := bundle.problem()):
        return f"{BUNDLE_VARIABLE}: {reason}"
    resolved = shutil.which(path)
    if resolved is None:
        origin = "PYTHON_JULIACALL_EXE: " if path == os.environ.get("PYTHON_JULIACALL_EXE") else ""
        return f"{origin}{path} is not an executable file"
    if Path(resolved).name in ("juliaup", "juliaup.exe"):
        return None
    version = _version(resolved, *_stamp(resolved))
    match = re.match(r"julia version (\d+)\.(\d+)\S*", version)
    launcher = " (the launcher of juliaup)" if "juliaup" in os.path.realpath(resolved) else ""
    if match is None:
        return f"{resolved}{launcher} is not a Julia that works: `{path} --version` {version}"
    if tuple(map(int, match.groups())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return f"{resolved}{launcher} is {match[0]}, and Julia {oldest} or later is required"
    return None


def status() -> str:
    """Return the line of `available_backends`: "available" only after a start that worked."""
    path = find_julia()
    if path is None:
        reason = unavailable()
        hint = "" if _configured() else f". {HOW_TO_GET_JULIA}"
        return (
            f"unavailable: {reason}{hint}"
            if reason
            else "not installed; the first use downloads it"
        )
    if "juliacall" in sys.modules or _recorded().get(path) == _record(path):
        return f"available ({path})"
    if chosen_bundle() is not None:
        return f"not started yet ({path}, of a bundle)"
    return f"not started yet ({path}); the first use sets up its packages, which takes minutes once"


def record_start(path: str) -> None:
    """Record that this Julia was started; where the cache cannot be written, nothing happens."""
    record = _record(path)
    if _recorded().get(path) == record:
        return
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        with atomic_write(cache_dir() / STARTS) as file:
            file.write(json.dumps({**_recorded(), path: record}, sort_keys=True).encode())
    except (OSError, DataError):  # no home folder
        return


def was_started(path: str) -> bool:
    """Return whether this very file was started before."""
    return _recorded().get(path) == _record(path)


def _recorded() -> dict[str, list[object]]:
    try:
        recorded = json.loads((cache_dir() / STARTS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _record(path: str) -> list[object]:
    """Return what identifies a Julia: path, time and size of the file, project, system image."""
    resolved = shutil.which(path) or path
    stamp, image = _stamp(resolved), os.environ.get(SYSIMAGE_VARIABLE, "")
    project = os.environ.get("PYTHON_JULIACALL_PROJECT", "")
    record = [_version(resolved, *stamp), *stamp, project, image, *_stamp(image)]
    return record if chosen_bundle() is None else [*record, processor_features()]


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@functools.cache
def _version(path: str, _time: int, _size: int) -> str:
    """What ``julia --version`` prints, or what it does instead."""
    try:
        completed = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"did not answer within {ANSWER_SECONDS:.0f} s"
    except OSError as error:
        return f"does not run ({error.strerror or error})"
    output = (completed.stdout + completed.stderr).decode(errors="replace").strip().splitlines()
    if completed.returncode:
        return f"ended with status {completed.returncode}" + (
            f" ({output[-1][:200]})" if output else ""
        )
    versions = [line for line in output if line.startswith("julia version ")]
    return versions[0] if versions else f"printed {output[0][:200] if output else 'nothing'!r}"


def _candidates() -> Iterator[str]:
    """The executables that could be Julia, in the order in which they are preferred."""
    from juliapkg.state import STATE

    configured = _configured()
    if configured:
        yield configured
        return
    paths = (shutil.which("julia"), shutil.which("juliaup"))
    yield from filter(None, (*paths, shutil.which(Path(STATE["install"]) / "bin" / "julia")))


def _configured() -> str | None:
    from juliapkg.state import STATE

    chosen = chosen_julia()
    return chosen[0] if chosen is not None else STATE["override_executable"]


def try_new_julia() -> None:
    """Try a system image or a bundle in another process, unless it has worked here before.

    Raises:
        BackendUnavailable: Julia does not start with the image, or would compile the packages of
            the bundle for this processor.
    """
    image, path, bundle = os.environ.get(SYSIMAGE_VARIABLE), find_julia(), chosen_bundle()
    if path is None or was_started(path):
        return
    if image:
        check_image(path, image)
    if bundle is not None:
        check_processor(bundle)


def check_image(path: str, image: str) -> None:
    """Start Julia with a system image in a process of its own.

    libjulia ends the process that loads a damaged image, past any ``except``.

    Args:
        path: Path or name of the Julia executable.
        image: Path of the system image.

    Raises:
        BackendUnavailable: Julia does not start with it.
    """
    if not Path(image).is_file():
        raise BackendUnavailable(f"{SYSIMAGE_VARIABLE} must be a file. Received: {image}")
    command = [path, f"--sysimage={image}", "--startup-file=no", "-e", "exit(0)"]
    try:
        completed = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10 * ANSWER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendUnavailable(f"Julia does not start with {image}: {error}") from None
    if completed.returncode:
        output = completed.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        raise BackendUnavailable(
            f"{SYSIMAGE_VARIABLE}={image}: {path} does not start with this system image "
            f"(status {completed.returncode}: {output[0][:300]}). Build it again with `pymobilenet "
            "sysimage`, or unset the variable"
        )
