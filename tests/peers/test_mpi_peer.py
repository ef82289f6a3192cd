"""Two processes train one Julia model, started by the mpiexec of MPI.jl."""

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

pytestmark = [pytest.mark.peers, pytest.mark.julia, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SET_UP = f"""
using Pkg
Pkg.develop(path={json.dumps(str(ROOT / "julia"))})
Pkg.add(["Flux", "MPI"])
Pkg.add(PackageSpec(name="PythonCall", version="{version("juliacall")}"))
using MPI
println(join(MPI.mpiexec().exec, '\\n'))
"""
"""Creates a project with MPI.jl and prints its mpiexec command, one argument per line."""


@pytest.fixture(scope="module")
def mpiexec(tmp_path_factory):
    """A function that starts Python with these arguments in `count` processes."""
    julia, project = juliapkg.executable(), tmp_path_factory.mktemp("project")
    setup = subprocess.run(
        [julia, f"--project={project}", "-e", SET_UP], capture_output=True, text=True, timeout=900
    )
    assert setup.returncode == 0, setup.stderr
    launcher = [line for line in setup.stdout.splitlines() if line]
    environment = os.environ | {
        "PYTHON_JULIACALL_EXE": julia,
        "PYTHON_JULIACALL_PROJECT": str(project),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
        "JULIA_NUM_THREADS": "1",
    }

    def start(*arguments, count=2):
        return subprocess.Popen(
            [*launcher, "-n", str(count), sys.executable, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="module")
def results(mpiexec, tmp_path_factory):
    """The results of mpi_script.py in each process."""
    folder = tmp_path_factory.mktemp("processes")
    process = mpiexec(ROOT / "tests" / "mpi_script.py", folder)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, output + errors
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_the_first_process_is_the_main_process(results):
    assert [result["is_main_process"] for result in results] == [True, False]
    assert results[1]["fit"]["compute_options"]["processes"] == "2"


@pytest.mark.parametrize("recipe", ["sgd", "adam"])
def test_two_julia_processes_take_the_steps_of_torch_with_two_micro_batches(results, recipe):
    """Loss, gradients, moments, averages and weights agree within torch's noise floors."""
    for result in results:
        assert result["lockstep"][recipe]["passed"], result["lockstep"][recipe]


@pytest.mark.parametrize("fault", ["no_averaging", "same_shard"])
def test_a_planted_fault_is_detected(results, fault):
    assert not results[0]["faults"][fault]["passed"]


def test_both_processes_end_with_identical_states(results):
    assert results[0]["fit"] == results[1]["fit"]


def test_any_rank_is_true_if_one_process_passes_true(results):
    assert [result["any_rank"] for result in results] == [[True, False]] * 2


def train(*arguments):
    return "-m", "pymobilenet.cli", "train", *arguments, "--backend", "julia"


def test_the_train_command_stops_and_resumes(mpiexec, tmp_path):
    recipe, images = write_recipe(tmp_path), write_images(tmp_path / "images")
    folder = tmp_path / "run"
    process = mpiexec(*train(recipe, "--data", images, "--out", folder, "--set", "epochs=500"))
    while not (folder / "log.csv").is_file() or len(lines_of(folder)) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)  # MPICH exits with 0 or with Python's status
    assert "Traceback" not in errors, errors
    stopped = read_checkpoint(folder / LAST).state
    assert f"Stopped after step {stopped.step} of 2000 and saved." in output
    assert all("processes=2" in line["compute_options"] for line in lines_of(folder))
    run = resume(folder, backend("torch"))
    assert run.train(is_stopping=lambda: run.state.step > stopped.step) == "interrupted"


FAILING = """
import sys
from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.data import synthetic

model = backend("julia").build(
    MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5), distributed=True
)
if model.is_main_process:
    END
model.fit(synthetic(64, num_classes=5), TrainConfig(batch_size=32, steps=4))
"""


@pytest.mark.parametrize("end", ["raise RuntimeError('alone')", "sys.exit('alone')"])
def test_a_process_that_fails_aborts_the_others(mpiexec, end):
    """Otherwise all would wait for ever."""
    process = mpiexec("-c", FAILING.replace("END", end))
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "alone" in errors


def test_a_single_process_is_refused_with_the_command_that_starts_several(mpiexec):
    code = "from pymobilenet import *; backend('julia').build(MobileNetConfig(), distributed=True)"
    process = mpiexec("-c", code, count=1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "mpiexec -n 2 " in errors
    assert "Received: one process" in errors
