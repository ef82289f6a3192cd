"""The commands `evaluate`, `predict` and `compare`."""

import json
from pathlib import Path

import numpy as np
import pytest
from cifar_files import COUNTS, write_binary_layout
from PIL import Image
from typed_commands import refused, run

from pymobilenet import MobileNetConfig, backend
from pymobilenet.cli.results import DEFAULT_MODEL
from pymobilenet.data import load_cifar100
from pymobilenet.data.preprocessing import preprocess
from pymobilenet.evaluation import evaluate, read_image
from pymobilenet.formats.exchange import write_weights

ROCKET = Path(__file__).parent.parent / "docs" / "rocket.jpg"
CONFIG = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=100)
MODEL = backend("torch").build(CONFIG)


def saved(path, **metadata):
    write_weights(path, CONFIG, MODEL.get_state(), {}, metadata)
    return path


@pytest.fixture
def model(tmp_path):
    return saved(tmp_path / "model.safetensors")


@pytest.fixture
def data(tmp_path):
    write_binary_layout(tmp_path / "images")
    return tmp_path / "images"


# evaluate


def test_evaluate_prints_the_figures(model, data):
    result = run("evaluate", model, "--data", data)
    assert result.exit_code == 0, result.output
    expected = evaluate(MODEL, load_cifar100(data, "test"))
    for figure in (f"{expected.loss:.4f}", f"{expected.top5:.2%}", f"{expected.ece:.2%}"):
        assert figure in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("split", ["test", "train"])
def test_evaluate_writes_json(model, data, split):
    result = run("evaluate", model, "--data", data, "--json", "--split", split)
    assert result.exit_code == 0, result.output
    result = json.loads(result.stdout)
    assert result.items() >= evaluate(MODEL, load_cifar100(data, split)).to_dict().items()
    assert (result["file"], result["count"]) == (str(model), COUNTS[split])


def test_evaluate_writes_pictures(model, data, tmp_path):
    result = run("evaluate", model, "--data", data, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {"confusion.png", "classes.png", "reliability.png", "mistakes.png"}
    assert names == {"evaluation.json"} | pictures
    assert all(name in result.stdout.replace("\n", "") for name in names)


def test_a_limit_selects_evenly_spaced_images(model, data):
    result = run("evaluate", model, "--data", data, "--json", "--limit", 2)
    subset = load_cifar100(data, "test").subset([0, 2])
    assert json.loads(result.stdout).items() >= evaluate(MODEL, subset).to_dict().items()
    result = run("evaluate", model, "--data", data, "--json", "--limit", 1000)
    assert json.loads(result.stdout)["count"] == COUNTS["test"]


def test_images_are_scaled_as_the_file_or_the_user_says(tmp_path, data):
    keras = saved(tmp_path / "keras.safetensors", preprocessing="keras")
    result = run("evaluate", keras, "--data", data, "--json")
    assert json.loads(result.stdout)["preprocessing"] == "keras"
    result = run("evaluate", keras, "--data", data, "--json", "--preprocessing", "unit")
    assert json.loads(result.stdout)["preprocessing"] == "unit"
    odd = saved(tmp_path / "odd.safetensors", preprocessing="caffe")
    assert "odd.safetensors: metadata preprocessing must be" in refused(
        "evaluate", odd, "--data", data
    )


def test_the_oracle_evaluates_in_float64(model, data):
    result = run("evaluate", model, "--data", data, "--json", "--backend", "numpy")
    result = json.loads(result.stdout)
    assert (result["backend"], result["dtype"]) == ("numpy", "float64")
    expected = evaluate(MODEL, load_cifar100(data, "test"))
    assert result["loss"] == pytest.approx(expected.loss, rel=1e-5)


def test_evaluate_refuses_invalid_arguments(model, data, tmp_path):
    assert "no such file" in refused("evaluate", tmp_path / "absent", "--data", data).lower()
    assert "no data at" in refused("evaluate", model, "--data", tmp_path / "absent")
    assert "split must be" in refused("evaluate", model, "--data", data, "--split", "all")
    assert "backend must be" in refused("evaluate", model, "--data", data, "--backend", "tf")
    assert "preprocessing must be" in refused(
        "evaluate", model, "--data", data, "--preprocessing", "caffe"
    )


# predict


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (50, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def test_predict_prints_the_most_likely_classes(model, picture):
    result = run("predict", model, picture, "--top", 3)
    assert result.exit_code == 0, result.output
    logits = MODEL.predict(preprocess(read_image(picture, 32)[None], "standard"))[0].astype(float)
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    rows = [line.split() for line in result.stdout.splitlines() if "%" in line]
    best = np.argsort(-chances)[:3]
    assert [(row[0], row[-1]) for row in rows] == [(str(n), f"{chances[n]:.2%}") for n in best]
    assert "cat.png" in result.stdout.replace("\n", "")


def test_backends_are_shown_side_by_side(model, picture):
    result = run("predict", model, picture, picture, "--backend", "torch", "--backend", "numpy")
    assert result.exit_code == 0, result.output
    differences = [line.split()[-1] for line in result.stdout.splitlines() if "difference" in line]
    assert len(differences) == 2
    assert 0 < float(differences[0]) < 1e-6
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.julia
def test_torch_and_julia_are_shown_side_by_side(model, picture):
    result = run("predict", model, picture, "--backend", "torch", "--backend", "julia")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if "difference" in line]
    assert float(line.split()[-1]) < 1e-6


def test_classes_are_printed_by_name(picture, tmp_path):
    named = saved(tmp_path / "named.safetensors", classes='"cifar-100"')
    first = run("predict", named, picture, "--top", 100).stdout
    assert "sweet_pepper" in first
    (tmp_path / "names").write_text("".join(f"class {n}\n" for n in range(100)))
    result = run("predict", named, picture, "--top", 100, "--classes", tmp_path / "names")
    assert "class 99" in result.stdout
    assert "sweet_pepper" not in result.stdout


def test_without_a_model_that_of_the_package_is_used(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = run("predict", ROCKET, "--top", 3)
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines() if "%" in line]
    assert rows[0][0] == "rocket"
    assert len(rows) == 3
    named = run("predict", DEFAULT_MODEL, ROCKET, "--top", 3)
    assert named.stdout == result.stdout


def test_a_model_alone_is_refused(model):
    message = refused("predict", model)
    assert "predict requires an image, as in `predict photo.jpg`" in message
    assert f"Received: {model} alone" in message


def test_predict_refuses_invalid_arguments(model, picture, tmp_path):
    (tmp_path / "odd.png").write_bytes(b"hello")
    assert "odd.png: no image" in refused("predict", model, picture, tmp_path / "odd.png")
    assert "absent: no such file" in refused("predict", model, tmp_path / "absent")
    (tmp_path / "names").write_text("a\n")
    few = refused("predict", model, picture, "--classes", tmp_path / "names")
    assert "there must be 100 names, one for each class. Received: 1" in few


def test_logits_that_overflow_are_reported(picture, tmp_path):
    state = MODEL.get_state()
    state["classifier.weight"][:] = state["classifier.bias"][:] = np.finfo(np.float32).max
    write_weights(tmp_path / "huge.safetensors", CONFIG, state, {})
    message = refused("predict", tmp_path / "huge.safetensors", picture)
    assert "logits must be finite to have probabilities. Received from torch: inf" in message


# compare


def a_run(folder, epochs):
    folder.mkdir()
    lines = [
        {
            "epoch": epoch,
            "train_loss": 4 / epoch,
            "train_accuracy": 1 - 1 / epoch,
            "val_loss": 4.5 / epoch,
            "val_accuracy": 0.9 - 0.9 / epoch,
            "rate": 0.1,
            "seconds": 2.0,
        }
        for epoch in range(1, epochs + 1)
    ]
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def test_compare_prints_the_best_and_draws_the_curves(tmp_path):
    runs = [a_run(tmp_path / "short", 3), a_run(tmp_path / "long", 10)]
    result = run("compare", *runs, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    short, long = (line.split() for line in result.stdout.splitlines() if "%" in line)
    assert short == ["short", "3", "1.5000", "(3)", "60.00%", "(3)", "1.3333", "66.67%", "6"]
    assert long == ["long", "10", "0.4500", "(10)", "81.00%", "(10)", "0.4000", "90.00%", "20"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["curves.png"]
    assert max(map(len, result.stdout.split("Written")[0].splitlines())) <= 80


def test_compare_names_the_invalid_line(tmp_path):
    good, bad = a_run(tmp_path / "good", 2), a_run(tmp_path / "bad", 2)
    with (bad / "log.jsonl").open("a") as file:
        file.write('{"epoch": 3, "train')
    message = refused("compare", good, bad, "--out", tmp_path / "out")
    assert "log.jsonl, line 3: not JSON" in message
    assert not (tmp_path / "out").exists()
