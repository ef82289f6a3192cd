"""`evaluate` and `predict` use the classes and the scaling that a file specifies."""

import json
from dataclasses import replace

import numpy as np
import pytest
from cifar_files import write_binary_layout
from image_files import pixels_of, png, write_folder
from PIL import Image
from run_files import write_images, write_recipe
from typed_commands import refused, run

from pymobilenet import MobileNetConfig, backend
from pymobilenet.data import load_cifar100, loading, open_data, scaling, statistics_of, synthetic
from pymobilenet.data.decoding import resized
from pymobilenet.data.preprocessing import preprocess
from pymobilenet.evaluation import as_trained, evaluate, probabilities, read_image
from pymobilenet.formats.exchange import read_weights, write_weights
from pymobilenet.training import begin, load_recipe
from pymobilenet.training.checkpoint import BEST, LAST

CONFIG = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=3)
NAMES = ("airplane", "cat", "ship")
CLASSES = {"classes": json.dumps(NAMES)}
OWN = ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
SCALED = {"preprocessing": "standard", "mean": "[0.1,0.2,0.3]", "std": "[0.5,0.6,0.7]"}


def figures(*arguments):
    result = run("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def saved(path, config=CONFIG, seed=0, always=None, **metadata):
    """A model; with `always`, one that takes every image for that class."""
    state = backend("torch").build(config, seed).get_state()
    if always is not None:
        state["classifier.weight"][:] = 0
        state["classifier.bias"][:] = 10 * np.eye(config.num_classes, dtype=np.float32)[always]
    write_weights(path, config, state, {}, metadata)
    return path


def images(folder, *names):
    return write_folder(folder, {name: png(pixels_of(i, 40, 36)) for i, name in enumerate(names)})


# Classes


def test_classes_are_matched_by_name(tmp_path):
    model = saved(tmp_path / "m", always=2, **CLASSES)
    for classes in (("ship",), ("cat", "ship"), ("ship", "airplane", "cat")):
        data = images(tmp_path / "_".join(classes), *(f"test/{name}/1.png" for name in classes))
        result = figures(model, "--data", data, "--preprocessing", "unit")
        assert result["top1"] == 1 / len(classes)
        assert [one["name"] for one in result["classes"]] == list(NAMES)
        assert result["classes"][2] == {"name": "ship", "count": 1, "accuracy": 1.0}


def test_a_class_that_the_model_lacks_is_named(tmp_path):
    data = images(tmp_path / "data", "test/ship/1.png", "test/dog/1.png")
    message = refused("evaluate", saved(tmp_path / "m", **CLASSES), "--data", data)
    assert "m has airplane, cat, ship. Received: dog. Rename" in message


def test_without_names_in_the_file_labels_are_unchanged(tmp_path):
    data = images(tmp_path / "data", "test/dog/1.png", "test/ship/1.png")
    model = saved(tmp_path / "m", always=1)
    assert figures(model, "--data", data, "--preprocessing", "unit")["top1"] == 1 / 2
    two = saved(tmp_path / "two", replace(CONFIG, num_classes=1))
    message = refused("evaluate", two, "--data", data, "--preprocessing", "unit")
    assert "data, test, 2 images has 2 classes" in message


# Scaling


@pytest.mark.parametrize("name", ["standard", "keras"])
def test_a_trained_model_states_the_scaling_of_its_images(tmp_path, name):
    data = write_images(tmp_path / "images")
    recipe = load_recipe(
        write_recipe(tmp_path), [f"data={data}", "epochs=1", f"preprocessing={name}"]
    )
    run = begin(recipe, backend("torch"), tmp_path / "run")
    assert run.train() == "finished"
    for file in (LAST, BEST):
        metadata = read_weights(tmp_path / "run" / file).metadata
        result = tuple(tuple(json.loads(metadata[key])) for key in ("mean", "std"))
        assert metadata["preprocessing"] == name
        assert result == scaling(name, run.images.train)
        known = statistics_of(metadata, name, "m")
        assert known == (open_data(data).statistics if name == "standard" else None)


def test_other_images_are_scaled_as_those_of_training(tmp_path):
    data = images(tmp_path / "data", *(f"test/{name}/1.png" for name in NAMES))
    path = saved(tmp_path / "m", **SCALED, **CLASSES)
    model = backend("torch").load(path)
    plain = open_data(data, "test", 32)
    expected = evaluate(model, replace(plain, statistics=OWN))
    assert figures(path, "--data", data)["loss"] == expected.loss
    metadata = read_weights(path).metadata
    assert as_trained(plain, CONFIG, metadata, "standard", "m").statistics == OWN
    other = figures(path, "--data", data, "--preprocessing", "unit")
    assert other["loss"] == evaluate(model, plain, "unit").loss != expected.loss


def test_the_official_images_are_also_scaled_as_those_of_training(tmp_path):
    write_binary_layout(tmp_path / "data")
    config = replace(CONFIG, num_classes=100)
    path = saved(tmp_path / "m", config, **SCALED)
    data = replace(load_cifar100(tmp_path / "data", "test"), statistics=OWN)
    expected = evaluate(backend("torch").load(path), data).loss
    assert figures(path, "--data", tmp_path / "data")["loss"] == expected
    old = saved(tmp_path / "old", config, preprocessing="standard")
    plain = evaluate(backend("torch").load(old), load_cifar100(tmp_path / "data", "test")).loss
    assert figures(old, "--data", tmp_path / "data")["loss"] == plain != expected


def test_predict_scales_as_in_training(tmp_path):
    Image.fromarray(pixels_of(1, 50, 40)).save(tmp_path / "cat.png")
    pixels = read_image(tmp_path / "cat.png", 32)[None]
    path = saved(tmp_path / "m", **SCALED, **CLASSES)
    model = backend("torch").load(path)
    mean, std = (np.reshape(values, (3, 1, 1)) for values in OWN)
    scaled = (pixels.transpose(0, 3, 1, 2) / 255 - mean) / std
    assert preprocess(pixels, "standard", "float64", OWN) == pytest.approx(scaled, rel=1e-14)
    chances = probabilities(model, pixels, "standard", OWN)[0]
    assert (chances != probabilities(model, pixels, "standard")[0]).all()
    result = run("predict", path, tmp_path / "cat.png")
    shares = {
        line.split()[0]: line.split()[-1] for line in result.stdout.splitlines() if "%" in line
    }
    assert shares == {name: f"{p:.2%}" for name, p in zip(NAMES, chances, strict=True)}


def test_invalid_statistics_are_refused(tmp_path):
    path = saved(tmp_path / "m", **SCALED | {"std": "[0,0,0]"})
    data = images(tmp_path / "data", "test/ship/1.png")
    for arguments in (
        ("evaluate", path, "--data", data),
        ("predict", path, data / "test/ship/1.png"),
    ):
        assert "m: metadata std must be JSON, three finite numbers above 0" in refused(*arguments)


# Which images, and where to


def test_test_images_alone_suffice_for_evaluation(tmp_path):
    data = images(tmp_path / "data", "test/ship/1.png")
    assert figures(saved(tmp_path / "m", **SCALED), "--data", data)["count"] == 1
    old = saved(tmp_path / "old", preprocessing="standard")
    assert "are for the split 'train'" in refused("evaluate", old, "--data", data)


def test_data_may_be_named(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "synthetic", lambda split: synthetic(8, split))
    model = saved(tmp_path / "m", replace(CONFIG, num_classes=100))
    assert figures(model, "--data", "synthetic")["count"] == 8


def test_images_of_either_kind_are_resized(tmp_path, monkeypatch):
    write_binary_layout(tmp_path / "cache" / "cifar-100-binary")
    monkeypatch.setenv("PYMOBILENET_DATA", str(tmp_path / "cache"))
    path = saved(tmp_path / "m", replace(CONFIG, resolution=48, num_classes=100))
    data = resized(load_cifar100(tmp_path / "cache", "test"), 48)
    expected = evaluate(backend("torch").load(path), data).to_dict()
    for arguments in ((), ("--data", tmp_path / "cache"), ("--data", "cifar-100")):
        assert figures(path, *arguments).items() >= expected.items()


def test_a_folder_for_results_is_created_before_the_evaluation(tmp_path):
    (tmp_path / "file").write_text("x")
    message = refused(
        "evaluate", saved(tmp_path / "m"), "--data", "none", "--out", tmp_path / "file"
    )
    assert "must be a folder" in message
    assert "no data at" not in message


def test_names_of_written_files_are_printed_as_they_are(tmp_path):
    name = "cmp[b]are"
    data = images(tmp_path / "data", "test/ship/1.png")
    model = saved(tmp_path / "m", **SCALED)
    result = run("evaluate", model, "--data", data, "--out", tmp_path / name)
    assert f"{name}/evaluation.json" in result.stdout
    (tmp_path / "run").mkdir()
    keys = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "rate", "seconds")
    (tmp_path / "run" / "log.jsonl").write_text(json.dumps(dict.fromkeys(keys, 1)) + "\n")
    result = run("compare", tmp_path / "run", "--out", tmp_path / name)
    assert f"{name}/curves.png" in result.stdout
    Image.fromarray(pixels_of(1)).save(tmp_path / "a:cat:[b].png")
    assert "a:cat:[b].png" in run("predict", model, tmp_path / "a:cat:[b].png").stdout


def test_the_error_of_predict_for_a_folder_states_what_it_is(tmp_path):
    (tmp_path / "three").mkdir()
    assert "three: a folder; name the image files" in refused(
        "predict", saved(tmp_path / "m"), tmp_path / "three"
    )
