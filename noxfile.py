"""Sessions: `nox -s demo` shows the agreement, `nox -s tests` tests it; `nox -l` lists them all.

Versions are declared once: ranges in pyproject.toml, what these sessions install in
constraints.txt. Arguments after `--` go to the command of the session.
"""

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["tests", "lint"]
nox.options.reuse_venv = "yes"

CONSTRAINTS = ("-c", "constraints.txt")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""For the tests' tiny nets, whose maps cost less than the threads that would share them."""

SHARED = ("-n", "auto", "--dist", "worksteal")
"""A process for each core; tests take seconds or minutes, so one that is done helps the others."""

OFFLINE = "not julia and not peers"

DEMO = ("--width-mult", "0.25", "--stem-stride", "2", "--stem-stride", "1", "--steps", "5")
"""The smaller net comes first, and so is the one that takes the steps."""


@nox.session
def demo(session):
    """Compare torch and Julia on CIFAR-100 and show the table; the picture is report/curves.png."""
    session.install(*CONSTRAINTS, "-e", ".")
    args = session.posargs or DEMO
    session.run("pymobilenet", "parity", "--backends", "torch,julia", "--report", "report", *args)


@nox.session
def tests(session):
    """All that needs no Julia: the package's tests, and the replay of the recordings."""
    session.install(*CONSTRAINTS, "-e", ".[all]", "--group", "test")
    session.run("pytest", *SHARED, "-m", OFFLINE, *session.posargs, env=ONE_THREAD)


@nox.session
def peers(session):
    """What other projects make of the same weights, timm, torchvision, Keras, Metalhead, and what
    Julia needs further packages for: MPI.jl's processes, a device's arrays."""
    session.install(*CONSTRAINTS, "-e", ".[all]", "--group", "test", "--group", "peers")
    session.install(*CONSTRAINTS, "--no-deps", "--group", "peers-alone")
    if shutil.which("julia") is None:
        session.warn("NOT RUN: no julia on PATH, so Julia was not held against other projects.")
        session.run("pytest", "-m", "peers and not julia", *session.posargs, env=ONE_THREAD)
        return
    session.run("pytest", "-m", "peers", *session.posargs, env=ONE_THREAD)
    code = 'using Pkg; Pkg.develop(path="julia"); include("julia/test/peers/runtests.jl")'
    session.run("julia", "--project=julia/test/peers", "--threads=2", "-e", code, external=True)


@nox.session
def julia(session):
    """The tests of MobileNets.jl itself, by Pkg.test, with Aqua and its doctests."""
    session.install(*CONSTRAINTS, "juliapkg")
    code = "import juliapkg; print(juliapkg.executable())"
    found = session.run("python", "-I", "-c", code, silent=True)
    executable = found.strip().splitlines()[-1]
    code = "using Pkg; Pkg.test()"
    session.run(executable, "--project=julia", "--threads=2", "-e", code, external=True)


@nox.session
def parity(session):
    """Both backends live: the parity suite, then the ladder itself on CIFAR-100."""
    session.install(*CONSTRAINTS, "-e", ".[all]", "--group", "test")
    session.run("pymobilenet", "doctor")  # sets Julia up, before several processes want it
    session.run("pytest", *SHARED, "-m", "julia and not peers", env=ONE_THREAD)
    args = session.posargs or ("--steps", "200")
    session.run("pymobilenet", "parity", "--backends", "torch,julia", "--report", "report", *args)


@nox.session
def bench(session):
    """Time the backends beside their peers; JSON and pictures are in bench/."""
    session.install(*CONSTRAINTS, "-e", ".[onnx]")
    session.run("pymobilenet", "bench", *session.posargs)


@nox.session
def lint(session):
    """Style, formatting and types."""
    session.install(*CONSTRAINTS, "--group", "lint", "numpy")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "pymobilenet")


@nox.session
def wheel(session):
    """Build the wheel, install it into an empty environment, and use it in an empty folder."""
    session.install(*CONSTRAINTS, "build")
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--wheel", "--outdir", str(folder), ".")
    (built,) = folder.glob("*.whl")
    session.install(*CONSTRAINTS, str(built))
    check = Path("tests/wheel_check.py").resolve()
    session.chdir(folder)
    session.run("python", str(check), *session.posargs)
