"""Logs of a run in TensorBoard and Weights & Biases."""

import sys
from types import SimpleNamespace

import pytest

from pymobilenet.errors import BackendUnavailable, ConfigError
from pymobilenet.training.log import LOGGERS, check_loggers, new_logger, write_log

LINES = [
    {"epoch": epoch, "train_loss": 3.0 / epoch, "val_accuracy": epoch / 4, "backend": "torch"}
    for epoch in (1, 2)
]


def test_tensorboard_shows_each_number_at_its_epoch(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = new_logger("tensorboard", tmp_path, {})
    for line in LINES:
        log(line)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = sorted(events.Tags()["tensors"])
    assert tags == ["epoch", "train_loss", "val_accuracy"]
    result = [
        (event.step, event.tensor_proto.float_val[0]) for event in events.Tensors("val_accuracy")
    ]
    assert result == [(1, 0.25), (2, 0.5)]


def test_wandb_keeps_a_run_offline(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    log = new_logger("wandb", tmp_path, {"rate": 0.1})
    for line in LINES:
        log(line)
    import wandb

    assert wandb.run.settings.mode == "offline"
    assert dict(wandb.run.config) == {"rate": 0.1}
    assert wandb.run.summary["val_accuracy"] == 0.5
    wandb.finish()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_wandb_resumes_the_run_of_the_folder(tmp_path, monkeypatch):
    """Offline: each time under the same id, and whole."""
    import wandb

    monkeypatch.delenv("WANDB_MODE", raising=False)
    ids = []
    for lines in ([], LINES[:1]):
        log = new_logger("wandb", tmp_path, {}, lines)
        ids.append(wandb.run.id)
        log(LINES[len(lines)])
        wandb.finish()
    assert ids[0] == ids[1] == (tmp_path / "wandb" / "run-id").read_text()
    (tmp_path / "other").mkdir()
    new_logger("wandb", tmp_path / "other", {})
    assert wandb.run.id != ids[0]
    wandb.finish()


@pytest.mark.parametrize(("resumed", "logged"), [(True, []), (False, [1, 2])])
def test_epochs_that_wandbs_server_lacks_are_logged_again(tmp_path, monkeypatch, resumed, logged):
    received, steps = {}, []

    def log(_line, step, commit):
        assert commit
        steps.append(step)

    def init(**options):
        received.update(options)
        return SimpleNamespace(resumed=resumed, log=log)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    monkeypatch.setenv("WANDB_MODE", "online")
    new_logger("wandb", tmp_path, {}, LINES)
    assert (received["resume"], received["mode"], steps) == ("allow", None, logged)


@pytest.mark.parametrize("name", LOGGERS)
def test_the_error_for_a_missing_logger_states_how_to_install_it(tmp_path, monkeypatch, name):
    for module in ("tensorboard.summary", "tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendUnavailable, match=rf"pip install 'pymobilenet\[{name}\]'"):
        check_loggers([name])
    with pytest.raises(BackendUnavailable):
        new_logger(name, tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_an_unknown_log_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"one of tensorboard, wandb. Received: 'paper'"):
        check_loggers(["tensorboard", "paper"])
    with pytest.raises(ConfigError):
        new_logger("paper", tmp_path, {})


def test_a_log_is_written_anew_each_time(tmp_path):
    write_log(tmp_path, LINES)
    write_log(tmp_path, LINES[:1])
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
    assert (tmp_path / "log.csv").read_text() == (
        "epoch,train_loss,val_accuracy,backend\n1,3.0,0.25,torch\n"
    )
