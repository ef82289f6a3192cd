"""Two processes that train one torch model, started by torchrun, against one that trains alone."""

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

SCRIPT = Path(__file__).with_name("processes_script.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
QUIET = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What the script found, in each process."""
    folder = tmp_path_factory.mktemp("processes")
    done = subprocess.run(
        [*TORCHRUN, str(SCRIPT), str(folder)],
        env=os.environ | QUIET,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == done.stdout == "", "no warning, at the exit either"
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_the_first_process_leads(both):
    assert [found["is_main_process"] for found in both] == [True, False]
    assert backend("torch").build(SMALL).is_main_process


def test_choices_name_the_processes(both):
    assert {found["compute_options"]["processes"] for found in both} == {"2"}
    assert both[0]["fitted"]["True"]["compute_options"]["sync_norm"] == "yes"
    assert both[0]["compute_options"]["sync_norm"] == "no"
    alone = backend("torch").build(SMALL).compute_options
    assert (alone["processes"], alone["sync_norm"]) == ("1", "no")


@pytest.mark.parametrize("recipe", ["sgd", "adam", "accumulated"])
def test_with_sync_norm_two_processes_take_the_steps_of_one(both, recipe):
    """Loss, gradients, statistics, moments, averages and weights, by the floors of the one."""
    for found in both:
        assert found["lockstep"][recipe]["passed"], found["lockstep"][recipe]


def test_with_sync_norm_the_curve_of_two_is_inside_the_envelope_of_one(both):
    assert all(found["curves"]["passed"] and found["curves"]["judged"] == 8 for found in both)


def test_without_it_a_step_is_the_mean_of_the_shares_and_statistics_are_the_first_ones(both):
    assert both[0]["unsynchronised"] == {"loss": 0, "grads": 0, "statistics": True}
    assert both[1]["unsynchronised"] == both[0]["unsynchronised"]
    assert not both[0]["without sync_norm"]["passed"]


@pytest.mark.parametrize("sync_norm", ["False", "True"])
def test_both_processes_end_with_the_same_bits(both, sync_norm):
    """After steps that clip, decay and average."""
    first, second = (found["fitted"][sync_norm] for found in both)
    assert first == second
    assert (
        first["digest"] != both[0]["fitted"]["False" if sync_norm == "True" else "True"]["digest"]
    )


def test_both_processes_end_with_the_same_bits_where_batches_are_cut(both):
    assert both[0]["accumulated"] == both[1]["accumulated"]
    assert both[0]["accumulated"]["digest"] != both[0]["fitted"]["False"]["digest"]


def test_mixed_precision_goes_with_it(both):
    assert both[0]["mixed"] == both[1]["mixed"]
    exact = both[0]["fitted"]["True"]["losses"]
    assert both[0]["mixed"]["losses"][0] == pytest.approx(exact[0], rel=0.1)


def test_a_process_computes_by_itself_what_is_no_step(both):
    assert both[0]["by itself"]


def test_what_does_not_go_into_shares_is_refused_and_moves_nothing(both):
    for found in both:
        kind, message, unmoved = found["odd batch"]
        assert (kind, unmoved) == ("ConfigError", True)
        assert message.endswith("choose batch_size so. Received: 7 images")
        kind, message, unmoved = found["one value"]
        assert (kind, unmoved) == ("DataError", True)
        assert "Received: batch 1 with a last map of 1x1" in message
        assert found["one value of two"] is None


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        ("not averaged", ["grad", "classifier.bias"]),
        ("wrong share", ["batch", "images or labels"]),
    ],
)
def test_a_planted_fault_is_found(both, fault, first):
    assert not both[0]["faults"][fault]["passed"]
    assert both[0]["faults"][fault]["first"] == first


def test_ctrl_c_saves_where_several_train(tmp_path):
    """All stop after the same step: one that went on would wait for the others."""
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
    said, _ = process.communicate(timeout=60)
    stopped = read_checkpoint(folder / LAST).state
    assert f"Stopped after step {stopped.step} of 2000 and saved." in said
    run = resume(folder, backend("torch"))
    assert run.train(is_stopping=lambda: run.state.step > stopped.step) == "interrupted"


def test_one_process_alone_computes_as_if_there_were_no_torchrun():
    """torch's own norms, not those that ask the other processes."""
    model = backend("torch").build(SMALL)
    with synchronised(model.module, Processes(0, 1)):
        assert {m.processes for m in model.module.modules() if isinstance(m, Norm)} == {None}


# Refused before any process is met


def test_without_torchrun_it_is_refused(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    rule = r"torchrun --nproc-per-node 2 program\.py`\. Received: an environment without RANK"
    with pytest.raises(ConfigError, match=rule):
        backend("torch").build(SMALL, distributed=True)


@pytest.fixture
def started(monkeypatch):
    """The environment of the third of torchrun's processes."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "3")


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("device", ["mps", "cuda:0"])
def test_a_device_that_processes_cannot_share_is_refused(device):
    with pytest.raises(ConfigError, match=rf"of its LOCAL_RANK\. Received: '{device}'"):
        backend("torch").build(SMALL, distributed=True, device=device)


@pytest.mark.usefixtures("started")
def test_each_process_takes_the_cuda_device_of_its_local_rank():
    with pytest.raises(BackendUnavailable, match="sees no device 'cuda:3' here"):
        backend("torch").build(SMALL, distributed=True, device="cuda")


def test_sync_norm_without_other_processes_is_refused():
    with pytest.raises(ConfigError, match="sync_norm belongs to distributed=True alone"):
        backend("torch").build(SMALL, sync_norm=True)


def test_the_oracle_trains_in_one_process():
    with pytest.raises(ConfigError, match="no option 'distributed': it trains in one process"):
        backend("numpy").build(SMALL, dtype="float64", distributed=True)
