"""Two processes that train one Julia model, started by the mpiexec of MPI.jl."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import juliapkg
import pytest
from run_files import lines_of, write_images, write_recipe

from pymobilenet import backend
from pymobilenet.training import resume
from pymobilenet.training.checkpoint import LAST, read_checkpoint

pytestmark = [pytest.mark.peers, pytest.mark.julia, pytest.mark.long]

ROOT = Path(__file__).parents[2]
SET_UP = f"""
using Pkg
Pkg.develop(path={json.dumps(str(ROOT / "julia"))})
Pkg.add([PackageSpec(name="MPI"), PackageSpec(name="PythonCall", version="{version("juliacall")}")])
using MPI
println(join(MPI.mpiexec().exec, '\\n'))
"""
"""A project with MPI.jl in it; its last lines are how its MPI starts processes."""


@pytest.fixture(scope="module")
def mpiexec(tmp_path_factory):
    """Starts Python with these arguments in `count` processes; gives the `Popen`."""
    julia, project = juliapkg.executable(), tmp_path_factory.mktemp("project")
    done = subprocess.run(
        [julia, f"--project={project}", "-e", SET_UP], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    launcher = [line for line in done.stdout.splitlines() if line]
    surroundings = os.environ | {
        "PYTHON_JULIACALL_EXE": julia,
        "PYTHON_JULIACALL_PROJECT": str(project),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
        "JULIA_NUM_THREADS": "1",
    }

    def start(*arguments, count=2):
        return subprocess.Popen(
            [*launcher, "-n", str(count), sys.executable, *map(str, arguments)],
            env=surroundings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="module")
def both(mpiexec, tmp_path_factory):
    """What the script found, in each process."""
    folder = tmp_path_factory.mktemp("processes")
    process = mpiexec(ROOT / "tests" / "mpi_script.py", folder)
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, said + errors
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_the_first_process_leads(both):
    assert [found["is_main_process"] for found in both] == [True, False]
    assert both[1]["fitted"]["compute_options"]["processes"] == "2"


@pytest.mark.parametrize("recipe", ["sgd", "adam"])
def test_two_julia_processes_take_the_steps_of_torch_in_two_parts(both, recipe):
    """Loss, gradients, moments, averages and weights, by torch's own floors."""
    for found in both:
        assert found["lockstep"][recipe]["passed"], found["lockstep"][recipe]


@pytest.mark.parametrize("fault", ["by_itself", "first_share"])
def test_a_planted_fault_is_found(both, fault):
    assert not both[0]["faults"][fault]["passed"]


def test_both_processes_end_with_the_same_bits(both):
    assert both[0]["fitted"] == both[1]["fitted"]


def test_all_stop_where_one_says_so(both):
    assert [found["any_rank"] for found in both] == [[True, False]] * 2


def train(*arguments):
    return "-m", "pymobilenet.cli", "train", *arguments, "--backend", "julia"


def test_the_command_trains_stops_and_goes_on(mpiexec, tmp_path):
    recipe, images = write_recipe(tmp_path), write_images(tmp_path / "images")
    folder = tmp_path / "run"
    process = mpiexec(*train(recipe, "--data", images, "--out", folder, "--set", "epochs=500"))
    while not (folder / "log.csv").is_file() or len(lines_of(folder)) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)  # MPICH's status is then 0 or that of Python
    assert "Traceback" not in errors, errors
    stopped = read_checkpoint(folder / LAST).state
    assert f"Stopped after step {stopped.step} of 2000 and saved." in said
    assert all("processes=2" in line["compute_options"] for line in lines_of(folder))
    run = resume(folder, backend("torch"))
    assert run.train(is_stopping=lambda: run.state.step > stopped.step) == "interrupted"


FAILING = """
from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.data import synthetic

model = backend("julia").build(
    MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5), distributed=True
)
if model.is_main_process:
    raise RuntimeError("alone")
model.fit(synthetic(64, num_classes=5), TrainConfig(batch_size=32, steps=4))
"""


def test_a_process_that_fails_ends_the_others(mpiexec):
    """They would wait for it for ever, and it for them."""
    process = mpiexec("-c", FAILING)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "RuntimeError: alone" in errors


def test_one_process_is_told_how_several_are_started(mpiexec):
    code = "from pymobilenet import *; backend('julia').build(MobileNetConfig(), distributed=True)"
    process = mpiexec("-c", code, count=1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "mpiexec -n 2 " in errors
    assert "Received: one process" in errors
