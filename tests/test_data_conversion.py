"""Conversion of data sets of torchvision and Hugging Face: pixels, labels and class names."""

from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from image_files import pixels_of, png, split_files, write_folder
from PIL import Image

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.data import load_image_folder, open_data, to_dataset
from pymobilenet.errors import DataError
from pymobilenet.evaluation import evaluate

NAMES = ("ant", "bee", "cat")


def hugging_face(count=6, size=6, **columns):
    """A `datasets.Dataset` whose image number i has the pixels of seed i and the label i % 3."""
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))}
        | {name: datasets.ClassLabel(names=["x"]) for name in columns}
    )
    rows = {
        "img": [Image.fromarray(pixels_of(i, size, size)) for i in range(count)],
        "label": [i % 3 for i in range(count)],
    }
    return datasets.Dataset.from_dict(rows | columns, features=features)


def image_folder(path):
    """What torchvision's `ImageFolder` has: samples and classes of a folder."""
    root = write_folder(path, split_files()) / "train"
    classes = sorted(entry.name for entry in root.iterdir())
    samples = [
        (str(file), number)
        for number, name in enumerate(classes)
        for file in sorted((root / name).iterdir())
    ]
    return SimpleNamespace(samples=samples, classes=classes, transform=None)


def no_report(message):
    raise AssertionError(message)


def test_a_data_set_of_this_package_is_returned_as_it_is(tmp_path):
    data = load_image_folder(write_folder(tmp_path, split_files()))
    assert to_dataset(data) is data


def test_an_image_folder_of_torchvision_has_the_images_of_the_folder(tmp_path):
    data = to_dataset(image_folder(tmp_path), report=no_report)
    expected = load_image_folder(tmp_path, "train")
    assert data.digest() == expected.digest()
    assert data.class_names == expected.class_names
    assert data.statistics == expected.statistics


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_with_targets_are_converted_and_grey_images_get_three_equal_channels(channels):
    pixels = np.stack([pixels_of(i) for i in range(4)])
    values = pixels if channels == 3 else pixels[..., 0]
    cifar = SimpleNamespace(data=values, targets=[2, 0, 1, 1], classes=NAMES, transform=None)
    data = to_dataset(cifar, report=no_report)
    expected = pixels if channels == 3 else np.repeat(values[..., np.newaxis], 3, axis=3)
    assert (data.images == expected.transpose(0, 3, 1, 2)).all()
    assert data.labels.tolist() == [2, 0, 1, 1]


def test_a_hugging_face_data_set_has_its_pixels_labels_and_names():
    data = to_dataset(hugging_face(), report=no_report)
    expected = np.stack([pixels_of(i).transpose(2, 0, 1) for i in range(6)])
    assert (data.images == expected).all()
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.class_names == NAMES


def test_of_several_label_columns_the_one_called_label_or_the_named_one_is_used():
    two = hugging_face(coarse=[0] * 6)
    assert to_dataset(two).class_names == NAMES
    assert to_dataset(two, label_column="coarse").class_names == ("x",)
    with pytest.raises(DataError, match=r"label_column must name one.*coarse \(ClassLabel\)"):
        to_dataset(two, label_column="fine")


def test_files_are_resized_as_those_of_a_folder_are(tmp_path):
    data = to_dataset(image_folder(tmp_path), resolution=3)
    assert data.digest() == load_image_folder(tmp_path, "train", resolution=3).digest()


def test_a_transform_is_reported_and_not_applied(tmp_path):
    folder, notes = image_folder(tmp_path), []
    folder.transform = object()
    assert to_dataset(folder, report=notes.append).digest()
    assert len(notes) == 1
    assert "its transform is not applied" in notes[0]


def test_other_data_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"data must be .*Received: builtins\.list"):
        to_dataset([])
    sizes = image_folder(tmp_path)
    (tmp_path / "train" / "dog" / "c.png").write_bytes(png(pixels_of(0, 4, 5)))
    with pytest.raises(DataError, match=r"resolution must be given. Received: .*c\.png of 5 x 4"):
        to_dataset(sizes)
    broken = image_folder(tmp_path / "broken")
    (tmp_path / "broken" / "train" / "cat" / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"x\.png: no image"):
        to_dataset(broken)
    floats = SimpleNamespace(data=np.zeros((2, 4, 4, 3)), targets=[0, 0], classes=NAMES)
    with pytest.raises(DataError, match=r"must be uint8 .*Received: float64 \(2, 4, 4, 3\)"):
        to_dataset(floats)


@pytest.mark.parametrize("test", ["test", "validation"])
def test_a_folder_that_datasets_wrote_is_opened_by_its_path(tmp_path, test):
    splits = datasets.DatasetDict({"train": hugging_face(6), test: hugging_face(3)})
    splits.save_to_disk(str(tmp_path / "saved"))
    assert len(open_data(tmp_path / "saved", "train")) == 6
    data = open_data(str(tmp_path / "saved"), "test", resolution=4)
    assert data.images.shape == (3, 3, 4, 4)


def test_a_single_data_set_on_disk_is_refused_with_what_to_do(tmp_path):
    hugging_face().save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(DataError, match="train_test_split"):
        open_data(tmp_path / "saved")


def test_fit_and_evaluate_accept_converted_data_sets():
    config = MobileNetConfig("v1", width_mult=0.1, resolution=32, num_classes=3)
    model = backend("numpy").build(config, dtype="float64")
    data = hugging_face(4, 32)
    train = TrainConfig(batch_size=4, steps=1, crop_padding=0)
    losses = model.fit(data, train).losses
    other = backend("numpy").build(config, dtype="float64")
    assert other.fit(to_dataset(data), train).losses == losses
    assert evaluate(model, data).count == 4
