"""Errors of runs: other images, damaged checkpoints, folders with a run."""

from dataclasses import replace

import pytest
from run_files import write_images, write_recipe

from pymobilenet import backend
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError, DataError, WeightsError
from pymobilenet.formats.exchange import read_weights, write_weights
from pymobilenet.training import begin, load_recipe, resume
from pymobilenet.training.checkpoint import LAST


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def recipe(tmp_path, images):
    return load_recipe(write_recipe(tmp_path), [f"data={images}"])


def test_a_folder_with_a_run_is_not_overwritten(recipe, tmp_path):
    begin(recipe, backend("torch"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"contains a run: resume it, or choose another folder"):
        begin(recipe, backend("torch"), tmp_path / "run")


def test_other_images_are_refused(recipe, tmp_path, images):
    begin(recipe, backend("torch"), tmp_path / "run")
    other = write_images(tmp_path / "other")
    assert resume(tmp_path / "run", backend("torch"), other).state.step == 0
    path = other / "train" / "a" / "0.png"
    path.write_bytes((images / "train" / "b" / "1.png").read_bytes())
    with pytest.raises(DataError, match=r"must be resumed with its own images"):
        resume(tmp_path / "run", backend("torch"), other)


def test_a_folder_without_a_checkpoint_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match=r"last.safetensors: no such file"):
        resume(tmp_path, backend("torch"))


def rewritten(path, **metadata):
    file = read_weights(path)
    write_weights(path, file.config, file.state, file.versions, file.metadata | metadata)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("train_state", "{}", "train_state must hold step, epoch_loss, epoch_seconds, log"),
        ("train_state", "[", "not JSON"),
        (
            "train_state",
            '{"step":1,"epoch_loss":0.0,"epoch_seconds":0.0,"log":[]}',
            "optimizer.step must be 1, the step of train_state. Received: 0",
        ),
        (
            "train_state",
            '{"step":-1,"epoch_loss":0.0,"epoch_seconds":0.0,"log":[]}',
            "step must be at least 0. Received: -1",
        ),
        (
            "train_state",
            '{"step":0,"epoch_loss":0.0,"epoch_seconds":0.0,"log":[{"epoch":2}]}',
            "entry 1 of the log is invalid",
        ),
        (
            "train",
            '{"seed":3}',
            r"slots of a state must be those of .* sgd: .*Received: ",
        ),
        ("train", '{"rate":-1}', "rate must be in"),
        ("run", '{"epochs":-1}', "epochs must be in"),
        ("data", "", "not JSON"),
    ],
)
def test_a_damaged_checkpoint_is_refused(recipe, tmp_path, key, text, message):
    begin(recipe, backend("torch"), tmp_path / "run")
    rewritten(tmp_path / "run" / LAST, **{key: text})
    with pytest.raises((WeightsError, ConfigError), match=message):
        resume(tmp_path / "run", backend("torch"))


def test_a_model_file_is_not_accepted_as_a_checkpoint(tmp_path):
    backend("torch").build(MobileNetConfig(resolution=32, num_classes=4)).save(tmp_path / LAST)
    with pytest.raises(WeightsError, match=r"must be a checkpoint of a run.*--set start="):
        resume(tmp_path, backend("torch"))


def test_a_recipe_without_data_is_refused(recipe, tmp_path):
    with pytest.raises(DataError, match=r"names no data: pass a folder or an archive with --data"):
        begin(replace(recipe, run=replace(recipe.run, data="")), backend("torch"), tmp_path / "r")


def test_more_validation_images_than_there_are_is_an_error(recipe, tmp_path):
    greedy = replace(recipe, run=replace(recipe.run, validation=40))
    with pytest.raises(DataError, match=r"validation must be less than .* training images, 40"):
        begin(greedy, backend("torch"), tmp_path / "run")
