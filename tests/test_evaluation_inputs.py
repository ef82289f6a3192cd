"""Text inputs of the evaluation: names of classes and logs of runs."""

import json
import shutil

import numpy as np
import pytest

from pymobilenet import MobileNetConfig
from pymobilenet.data import Dataset
from pymobilenet.errors import DataError, WeightsError
from pymobilenet.evaluation import class_names, known_names, match_classes, read_runs

# Names

FIVE = MobileNetConfig(num_classes=5)
TEN = MobileNetConfig(num_classes=10)


def test_classes_without_names_are_numbered():
    assert class_names(FIVE, {}, "m") == ("0", "1", "2", "3", "4")


def test_names_come_from_the_users_file_then_from_the_models(tmp_path):
    metadata = {"classes": '["a", "b", "c", "d", "ü"]'}
    assert class_names(FIVE, metadata, "m") == ("a", "b", "c", "d", "ü")
    (tmp_path / "names").write_text("one\ntwo\nthree\nfour\nfünf\n", encoding="utf-8")
    names = class_names(FIVE, metadata, "m", tmp_path / "names")
    assert names == ("one", "two", "three", "four", "fünf")


def test_classes_without_names_are_named_by_number():
    for count in (3, 5):
        metadata = {"classes": json.dumps(list("abcde"[:count]))}
        expected = tuple("abc34" if count == 3 else "abcde")
        assert class_names(FIVE, metadata, "m") == known_names(FIVE, metadata, "m") == expected
    assert known_names(FIVE, {}, "m") is None


def data_of(names, labels):
    """Images whose first pixel is their label."""
    images = np.zeros((len(labels), 3, 4, 4), np.uint8)
    images[:, 0, 0, 0] = labels
    return Dataset(images, np.array(labels), None, names, (), "here", synthetic=False)


def test_labels_are_matched_by_name():
    data = data_of(("ship", "cat", "zebra"), [0, 1, 1, 0])
    result = match_classes(data, ("airplane", "cat", "ship"), "m")
    assert result.labels.tolist() == [2, 1, 1, 2]
    assert result.class_names == ("airplane", "cat", "ship")
    assert (result.images == data.images).all()
    assert match_classes(data, data.class_names, "m") is data


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("airplane", "cat"),
            "one of the model's classes; m has airplane, cat. Received: ship",
        ),
        (
            ("cat", "ship", "ship"),
            "exactly one of the model's classes; m .* Received: ship",
        ),
    ],
)
def test_a_class_that_is_not_one_of_the_models_is_named(names, message):
    with pytest.raises(DataError, match=f"here: .*{message}"):
        match_classes(data_of(("ship", "cat"), [0, 1]), names, "m")


def test_a_file_may_name_the_data_set():
    names = class_names(TEN, {"classes": '"cifar-10"'}, "m")
    assert (len(names), names[0], names[9]) == (10, "airplane", "truck")
    names = class_names(MobileNetConfig(num_classes=100), {"classes": '"cifar-100"'}, "m")
    assert (len(set(names)), names[0], names[99]) == (100, "apple", "worm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a", "b", "c", "d", "e", "f"]', "there must be 5 names.* Received: 6"),
        ('"cifar-10"', "there must be 5 names.* Received: 10"),
        ('"imagenet"', "must be JSON, .* cifar-10, cifar-100, imagenet-1k, .*Received: .*imagenet"),
        ("a, b", "must be JSON"),
        ("[1, 2, 3, 4, 5]", "must be JSON"),
        ('["a", "b", "", "d", "e"]', "class 2 must have a name. Received: ''"),
        ("[" * 100_000, "must be JSON"),
    ],
)
def test_invalid_class_names_in_metadata_are_refused(text, message):
    with pytest.raises(WeightsError, match=f"m: metadata classes.*{message}"):
        class_names(FIVE, {"classes": text}, "m")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\n", "one name a line: there must be 5 names.* Received: 2"),
        (b"a\nb\n\nd\ne\n", "one name a line: class 2 must have a name"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_invalid_files_of_names_are_refused(tmp_path, content, message):
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(DataError, match=f"names: {message}"):
        class_names(FIVE, {}, "m", tmp_path / "names")


# Runs

EPOCH = {
    "epoch": 1,
    "train_loss": 4.5,
    "train_accuracy": 0.1,
    "val_loss": 4.4,
    "val_accuracy": 0.2,
    "rate": 0.1,
    "seconds": 30,
}


def a_run(folder, *epochs):
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in epochs))
    return folder


def test_a_run_is_read(tmp_path):
    later = {**EPOCH, "epoch": 3, "val_loss": None, "val_accuracy": 0.3, "other": "is ignored"}
    (run,) = read_runs([a_run(tmp_path / "first", EPOCH, later)])
    assert (run.name, len(run)) == ("first", 2)
    assert run.values["epoch"].tolist() == [1, 3]
    assert np.isnan(run.values["val_loss"][1])
    assert run.best("val_accuracy") == (0.3, 3)
    assert run.best("val_loss") == (4.4, 1)
    assert run.best("train_loss") == (4.5, 1)


def test_a_quantity_without_measurements_has_no_best_epoch(tmp_path):
    (run,) = read_runs([a_run(tmp_path / "a", {**EPOCH, "val_loss": None})])
    assert run.best("val_loss") is None


def test_folders_of_the_same_name_are_distinguished(tmp_path):
    folders = [a_run(tmp_path / name / "run", EPOCH) for name in "ab"]
    assert [run.name for run in read_runs(folders)] == list(map(str, folders))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 1}, "epoch must be a whole number, larger than .* Received: 1"),
        ({"epoch": 2.0}, "epoch must be a whole number"),
        ({"epoch": True}, "epoch must be a whole number"),
        ({"epoch": None}, "epoch must be"),
        ({"train_loss": "low"}, 'train_loss must be a number, or null. Received: "low"'),
        ({"val_loss": True}, "val_loss must be a number"),
        ({"val_loss": 10**400}, "val_loss must be a number"),
        ({"val_accuracy": 20}, r"val_accuracy must be a number in \[0, 1\], or null. Received: 20"),
        ({"rate": -0.1}, "rate must be a number, at least 0. Received: -0.1"),
        ({"rate": None}, "rate must be"),
        ({"seconds": -1}, "seconds must be"),
    ],
)
def test_a_line_that_breaks_a_rule_is_refused(tmp_path, change, message):
    run = a_run(tmp_path / "run", EPOCH, {**EPOCH, "epoch": 2} | change)
    with pytest.raises(DataError, match=rf"log\.jsonl, line 2: {message}"):
        read_runs([run])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "not JSON"),
        (b'{"epoch": 2, "train_l', "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "must have the keys .* Missing: epoch, train_loss"),
        (b'{"epoch": 2, "epoch": 2}', "appears twice"),
        (b'{"train_loss": NaN}', "NaN is no number"),
        (b"\xff", "not valid UTF-8"),
    ],
)
def test_a_line_that_is_not_an_epoch_is_refused(tmp_path, line, message):
    run = a_run(tmp_path / "run", EPOCH)
    with (run / "log.jsonl").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(DataError, match=rf"log\.jsonl, line 2: .*{message}"):
        read_runs([run])


def test_a_folder_without_epochs_is_refused(tmp_path):
    run = a_run(tmp_path / "run")
    with pytest.raises(DataError, match=r"log\.jsonl: has no epochs"):
        read_runs([run])
    shutil.rmtree(run)
    with pytest.raises(DataError, match=r"log\.jsonl: no such file; a run is a folder with a log"):
        read_runs([run])
