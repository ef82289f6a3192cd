"""Two processes, started by torchrun, train one torch model; compared with a single process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_files import lines_of, write_images, write_recipe
from small_models import SMALL

from pymobilenet import backend
from pymobilenet.backends.torch.module import Norm
from pymobilenet.backends.torch.processes import Processes, synchronised
from pymobilenet.errors import BackendUnavailable, ConfigError
from pymobilenet.training import resume
from pymobilenet.training.checkpoint import LAST, read_checkpoint

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("processes_script.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
QUIET = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of processes_script.py in each process."""
    folder = tmp_path_factory.mktemp("processes")
    process = subprocess.run(
        [*TORCHRUN, str(SCRIPT), str(folder)],
        env=os.environ | QUIET,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == process.stdout == "", "no warning, not even at exit"
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_the_first_process_is_the_main_process(results):
    assert [result["is_main_process"] for result in results] == [True, False]
    assert backend("torch").build(SMALL).is_main_process


def test_compute_options_contain_the_processes(results):
    assert {result["compute_options"]["processes"] for result in results} == {"2"}
    assert results[0]["fit"]["True"]["compute_options"]["sync_norm"] == "yes"
    assert results[0]["compute_options"]["sync_norm"] == "no"
    single = backend("torch").build(SMALL).compute_options
    assert (single["processes"], single["sync_norm"]) == ("1", "no")


@pytest.mark.parametrize("recipe", ["sgd", "adam", "accumulated"])
def test_with_sync_norm_two_processes_take_the_steps_of_one_process(results, recipe):
    """Loss, gradients, statistics, moments, averages and weights agree within noise floors."""
    for result in results:
        assert result["lockstep"][recipe]["passed"], result["lockstep"][recipe]


def test_with_sync_norm_the_training_curve_is_inside_the_envelope_of_one_process(results):
    assert all(result["curves"]["passed"] and result["curves"]["judged"] == 8 for result in results)


def test_without_sync_norm_gradients_are_means_and_statistics_those_of_rank_0(results):
    assert results[0]["unsynchronised"] == {"loss": 0, "grads": 0, "statistics": True}
    assert results[1]["unsynchronised"] == results[0]["unsynchronised"]
    assert not results[0]["without sync_norm"]["passed"]


@pytest.mark.parametrize("sync_norm", ["False", "True"])
def test_both_processes_end_with_identical_states(results, sync_norm):
    """After steps with clipping, weight decay and averaging."""
    first, second = (result["fit"][sync_norm] for result in results)
    assert first == second
    assert (
        first["digest"] != results[0]["fit"]["False" if sync_norm == "True" else "True"]["digest"]
    )


def test_both_processes_end_with_identical_states_with_accumulation(results):
    assert results[0]["accumulated"] == results[1]["accumulated"]
    assert results[0]["accumulated"]["digest"] != results[0]["fit"]["False"]["digest"]


def test_distributed_training_supports_mixed_precision(results):
    assert results[0]["mixed"] == results[1]["mixed"]
    exact = results[0]["fit"]["True"]["losses"]
    assert results[0]["mixed"]["losses"][0] == pytest.approx(exact[0], rel=0.1)


def test_methods_other_than_step_compute_in_one_process(results):
    assert results[0]["single process"]


def test_a_batch_that_does_not_divide_into_shards_is_refused_and_changes_nothing(results):
    for result in results:
        error, message, is_unchanged = result["odd batch"]
        assert (error, is_unchanged) == ("ConfigError", True)
        assert message.endswith("a multiple of the number of processes, 2. Received: 7 images")
        error, message, is_unchanged = result["one value"]
        assert (error, is_unchanged) == ("DataError", True)
        assert "Received: batch 1 with a last map of 1x1" in message
        assert result["one value of two"] is None


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        ("not averaged", ["grad", "classifier.bias"]),
        ("wrong shard", ["batch", "images or labels"]),
    ],
)
def test_a_planted_fault_is_detected(results, fault, first):
    assert not results[0]["faults"][fault]["passed"]
    assert results[0]["faults"][fault]["first"] == first


def test_ctrl_c_saves_a_distributed_run(tmp_path):
    """All processes stop after the same step; one that continued would wait for the others."""
    recipe, images = write_recipe(tmp_path), write_images(tmp_path / "images")
    folder = tmp_path / "run"
    command = ["-m", "pymobilenet.cli", "train", recipe, "--data", images, "--out", folder]
    process = subprocess.Popen(
        [*map(str, (*TORCHRUN, *command)), "--set", "epochs=500"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (folder / "log.csv").is_file() or len(lines_of(folder)) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it
    output, _ = process.communicate(timeout=60)
    stopped = read_checkpoint(folder / LAST).state
    assert f"Stopped after step {stopped.step} of 2000 and saved." in output
    run = resume(folder, backend("torch"))
    assert run.train(is_stopping=lambda: run.state.step > stopped.step) == "interrupted"


def test_sync_norm_is_not_used_for_one_process():
    model = backend("torch").build(SMALL)
    with synchronised(model.module, Processes(0, 1)):
        assert {m.processes for m in model.module.modules() if isinstance(m, Norm)} == {None}


# Refused before torch.distributed is initialized


def test_distributed_without_torchrun_is_refused(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    rule = r"torchrun --nproc-per-node 2 program\.py`\. Received: an environment without RANK"
    with pytest.raises(ConfigError, match=rule):
        backend("torch").build(SMALL, distributed=True)


@pytest.fixture
def torchrun_environment(monkeypatch):
    """The environment of the process with rank 3."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "3")


@pytest.mark.usefixtures("torchrun_environment")
@pytest.mark.parametrize("device", ["mps", "cuda:0"])
def test_a_device_that_processes_cannot_share_is_refused(device):
    with pytest.raises(ConfigError, match=rf"number LOCAL_RANK\. Received: '{device}'"):
        backend("torch").build(SMALL, distributed=True, device=device)


@pytest.mark.usefixtures("torchrun_environment")
def test_each_process_takes_the_cuda_device_of_its_local_rank():
    with pytest.raises(BackendUnavailable, match="Received: 'cuda:3'"):
        backend("torch").build(SMALL, distributed=True, device="cuda")


def test_sync_norm_without_other_processes_is_refused():
    with pytest.raises(ConfigError, match="sync_norm=True requires distributed=True"):
        backend("torch").build(SMALL, sync_norm=True)


def test_the_oracle_trains_in_one_process():
    with pytest.raises(ConfigError, match="no option 'distributed': it trains in one process"):
        backend("numpy").build(SMALL, dtype="float64", distributed=True)
