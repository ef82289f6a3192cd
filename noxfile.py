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
"""For the small nets of the tests, which are slower with several threads."""

SHARED = ("-n", "auto", "--dist", "worksteal")
"""A process for each core. Tests take seconds or minutes, so that idle processes steal work."""

OFFLINE = "not julia and not peers and not docs"

SLOW = "--slow"

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

DEMO = ("--width-mult", "0.25", "--stem-stride", "2", "--stem-stride", "1", "--steps", "5")
"""Levels 4 and 6 use the first net, which is the smaller one."""

EARLIER_BENCH = Path("bench/bench.json")

CHECKED_CASES = ("--width-mult", "0.25")
"""A part of the cases that `nox -s bench` measures."""


@nox.session
def demo(session):
    """Compare torch and Julia on CIFAR-100 and print the verdicts; report/curves.png is a plot.

    Then classify a photograph with the model of the package, by each of the two that is there.
    """
    session.install(*CONSTRAINTS, "-e", ".")
    args = session.posargs or DEMO
    session.run("pymobilenet", "parity", "--backends", "torch,julia", "--report", "report", *args)
    statuses = [
        line.split()[:2]
        for line in session.run("pymobilenet", "backends", silent=True).splitlines()
    ]
    there = [name for name in ("torch", "julia") if [name, "available"] in statuses]
    flags = [word for name in there for word in ("--backend", name)]
    session.run("pymobilenet", "predict", "docs/rocket.jpg", "--top", "3", *flags)


@nox.session
def tests(session):
    """Run the tests that require no Julia: the quick ones or, with `-- --slow`, all of them."""
    session.install(*CONSTRAINTS, "-e", ".[all,openvino]", "--group", "test")
    args = [argument for argument in session.posargs if argument != SLOW]
    marker = OFFLINE if SLOW in session.posargs else f"{OFFLINE} and not slow"
    session.run("pytest", *SHARED, "-m", marker, *args, env=ONE_THREAD)
    if SLOW not in session.posargs:
        session.warn(f"NOT RUN: the slow tests; `nox -s tests -- {SLOW}` runs them, too.")


@nox.session
def peers(session):
    """Compare with timm, torchvision, Keras and Metalhead on the same weights.

    Also tests what requires further Julia packages: processes of MPI.jl, arrays of a device.
    """
    session.install(*CONSTRAINTS, "-e", ".[all]", "--group", "test", "--group", "peers")
    session.install(*CONSTRAINTS, "--no-deps", "--group", "peers-alone")
    if shutil.which("julia") is None:
        session.warn("NOT RUN: no julia on PATH, so Julia was not compared with other projects.")
        session.run("pytest", "-m", "peers and not julia", *session.posargs, env=ONE_THREAD)
        return
    session.run("pytest", "-m", "peers", *session.posargs, env=ONE_THREAD)
    code = 'using Pkg; Pkg.develop(path="julia"); include("julia/test/peers/runtests.jl")'
    session.run("julia", "--project=julia/test/peers", "--threads=2", "-e", code, external=True)


@nox.session
def julia(session):
    """Run the tests of MobileNets.jl, with Aqua and doctests, by Pkg.test.

    Modules of torch inside Flux are tested with the Python of this session.
    """
    session.install(*CONSTRAINTS, "juliapkg", "torch", "numpy")
    code = "import juliapkg; print(juliapkg.executable())"
    output = session.run("python", "-I", "-c", code, silent=True)
    executable = output.strip().splitlines()[-1]
    code = "using Pkg; Pkg.test()"
    python = session.run("python", "-c", "import sys; print(sys.executable)", silent=True)
    env = {"JULIA_PYTHONCALL_EXE": python.strip(), "JULIA_CONDAPKG_BACKEND": "Null"}
    session.run(executable, "--project=julia", "--threads=2", "-e", code, external=True, env=env)


@nox.session
def parity(session):
    """Run the parity suite with both backends, and then the comparison on CIFAR-100."""
    session.install(*CONSTRAINTS, "-e", ".[all]", "--group", "test")
    session.run("pymobilenet", "doctor")  # sets Julia up before several processes need it
    session.run("pytest", *SHARED, "-m", "julia and not peers and not soak", env=ONE_THREAD)
    args = session.posargs or ("--steps", "200")
    session.run("pymobilenet", "parity", "--backends", "torch,julia", "--report", "report", *args)


@nox.session
def mutation(session):
    """Score `compare`: planted faults caught, located and diagnosed; correct pairs accused."""
    session.install(*CONSTRAINTS, "-e", ".[all]", "--group", "test")
    env = {**ONE_THREAD, "PYTHONPATH": "tests"}
    session.run("python", "-m", "parity.mutation_score", *session.posargs, env=env)


@nox.session
def soak(session):
    """Call Julia from threads for ten minutes and from a web server; measure speed and memory."""
    session.install(*CONSTRAINTS, "-e", ".[all]", "--group", "test")
    session.run("pytest", "-rP", "-m", "soak", *session.posargs, env=ONE_THREAD)


@nox.session
def bench(session):
    """Time the backends beside their peers; JSON and plots are written to bench/."""
    session.install(*CONSTRAINTS, "-e", ".[onnx,openvino]")
    session.run("pymobilenet", "bench", *session.posargs)


@nox.session(name="bench-check")
def bench_check(session):
    """Time a few cases and compare them with bench/bench.json, or with the file after `--`."""
    session.install(*CONSTRAINTS, "-e", ".[onnx,openvino]")
    if session.posargs or EARLIER_BENCH.exists():
        earlier = session.posargs[0] if session.posargs else str(EARLIER_BENCH)
        out = str(EARLIER_BENCH.parent / "check")
        session.run("pymobilenet", "bench", *CHECKED_CASES, "--out", out, "--compare", earlier)
        return
    session.warn(f"NOT COMPARED: there is no {EARLIER_BENCH}; it is written for the next time.")
    session.run("pymobilenet", "bench", *CHECKED_CASES, "--out", str(EARLIER_BENCH.parent))


@nox.session
def docs(session):
    """Build the documentation site into site/, run its examples and open its pages in Chromium."""
    session.install(*CONSTRAINTS, "-e", ".[all]", "--group", "test", "--group", "docs")
    marker = "docs"
    if shutil.which("julia") is None:
        shutil.rmtree("julia/docs/build", ignore_errors=True)
        session.warn("NOT RUN: no julia on PATH, so the reference of MobileNets.jl was not built.")
        session.warn("NOT RUN: no julia on PATH, so the examples in Julia were not run.")
    else:
        session.run("julia", "--project=julia/docs", "julia/docs/make.jl", external=True)
        session.run("pytest", "tests/test_documents.py", "-m", "julia", env=ONE_THREAD)
    session.run("mkdocs", "build", env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("pytest", "tests/test_documents.py", "-m", OFFLINE, env=ONE_THREAD)
    if not any(map(shutil.which, BROWSERS)):
        session.warn(f"NOT RUN: none of {', '.join(BROWSERS)} on PATH; no page was opened.")
        marker = "docs and not browser"
    session.run("pytest", "tests/test_docs_site.py", "-m", marker, *session.posargs)


@nox.session
def lint(session):
    """Check style, formatting and types."""
    session.install(*CONSTRAINTS, "--group", "lint", "-e", ".")  # mypy reads the types of torch
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
