"""Synthetic images: the same bytes everywhere, learnable, and marked as synthetic."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from pymobilenet.data import Dataset, load_cifar100, synthetic, write_binary
from pymobilenet.errors import ConfigError, DataError

TRAIN_DIGEST = "0b6bba7e7702957c732d9b6531d247ae8ad8a909d2c5f3f84731c48262b4b7ea"
TEST_DIGEST = "591ef9498dd4f70a479b141ae3202ce531715aedcbbb06a86552839f02e3ac98"


def test_the_bytes_are_the_recorded_ones():
    assert synthetic(2000).digest() == TRAIN_DIGEST
    assert synthetic(300, "test", seed=7).digest() == TEST_DIGEST


def test_synthetic_data_is_labelled_as_synthetic():
    data = synthetic(250, "test")
    assert data.synthetic
    assert data.source.startswith("SYNTHETIC")
    assert data.images.shape == (250, 3, 32, 32)
    assert data.num_classes == 100
    assert len(data.coarse_names) == 20
    assert (data.coarse == data.labels // 5).all()
    assert data.labels[:102].tolist() == [*range(100), 0, 1]


def test_a_smaller_set_begins_a_larger_one_and_the_splits_share_no_image():
    large, small, test = synthetic(1500), synthetic(1100), synthetic(1100, "test")
    assert (large.images[:1100] == small.images).all()
    assert not (small.images == test.images).all(axis=(1, 2, 3)).any()
    assert not (small.images == synthetic(1100, seed=1).images).all(axis=(1, 2, 3)).any()


def test_its_classes_can_be_learned_but_not_at_once():
    train, test = synthetic(3000), synthetic(1000, "test")
    coarse_pixels = [d.images.reshape(-1, 3, 4, 8, 4, 8).mean(axis=(3, 5)) for d in (train, test)]
    x, queries = (pixels.reshape(len(pixels), -1) for pixels in coarse_pixels)
    x, queries = x - x.mean(axis=1, keepdims=True), queries - queries.mean(axis=1, keepdims=True)
    centres = np.stack([x[train.labels == k].mean(axis=0) for k in range(100)])
    distances = ((queries[:, None] - centres) ** 2).sum(axis=-1)
    accuracy = (distances.argmin(axis=1) == test.labels).mean()
    assert 0.3 < accuracy < 0.99


def test_written_files_come_back_the_same_and_still_as_a_synthetic(tmp_path):
    data = synthetic(120)
    write_binary(data, tmp_path / "new", "train")
    write_binary(synthetic(20, "test"), tmp_path / "new", "test")
    back = load_cifar100(tmp_path / "new", "train")
    assert back.digest() == data.digest()
    assert (back.coarse == data.coarse).all()
    assert (back.class_names, back.coarse_names) == (data.class_names, data.coarse_names)
    assert back.synthetic
    assert back.source.startswith("SYNTHETIC")
    assert len(load_cifar100(tmp_path / "new", "test")) == 20
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "coarse_label_names.txt",
        "fine_label_names.txt",
        "test.bin",
        "train.bin",
    ]


def test_another_number_of_classes_is_not_written(tmp_path):
    with pytest.raises(DataError, match="100 fine and 20 coarse"):
        write_binary(synthetic(20, num_classes=10), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "arguments",
    [{"split": "valid"}, {"num_images": 0}, {"num_classes": 257}, {"seed": -1}, {"num_images": -1}],
)
def test_arguments_outside_the_rules_are_refused(arguments):
    with pytest.raises(ConfigError, match=r"Received: .*(-1|0|257|valid)"):
        synthetic(**{"num_images": 10, **arguments})


def test_mean_deviation_and_digest_are_those_of_the_definition():
    data = synthetic(700)
    pixels = data.images.astype(np.float64) / 255
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)
    raw = data.images.tobytes() + data.labels.astype("<i8").tobytes()
    assert data.digest() == hashlib.sha256(raw).hexdigest()


def test_a_subset_keeps_order_labels_and_the_warning():
    data = synthetic(50)
    subset = data.subset(np.array([7, 3, 3]))
    assert subset.labels.tolist() == [7, 3, 3]
    assert subset.coarse.tolist() == [1, 0, 0]
    assert (subset.images[0] == data.images[7]).all()
    assert (np.asarray(subset.images) == data.images[[7, 3, 3]]).all()
    assert (subset.images[1:, :, 2:5, ::-1] == data.images[[3, 3], :, 2:5, ::-1]).all()
    assert (subset.subset([2, 0]).images[1] == data.images[7]).all()
    assert subset.digest() == replace(subset, images=data.images[[7, 3, 3]]).digest()
    assert [image.sum() for image in subset.images] == [data.images[k].sum() for k in (7, 3, 3)]
    assert subset.source.startswith("SYNTHETIC")
    assert "3 of 50" in subset.source


@pytest.mark.parametrize("indices", [[50], [-1], [0.5], [], [[1]], [True]])
def test_a_subset_outside_the_images_is_refused(indices):
    with pytest.raises(DataError, match="indices must be"):
        synthetic(50).subset(indices)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"images": np.full((2, 3, 4, 4), np.nan)}, "images must be uint8.*float64"),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8)}, r"\(N, 3, H, W\).*\(2, 4, 4, 3\)"),
        ({"images": np.zeros((0, 3, 4, 4), np.uint8)}, "at least one image"),
        ({"labels": np.array([0, 2])}, r"labels must be in \[0, 2\). Received: 2 at index 1"),
        ({"labels": np.array([-1, 0])}, "Received: -1 at index 0"),
        ({"labels": np.array([0.0, 1.0])}, "labels must be int64.*float64"),
        ({"labels": np.array([0, 1, 1])}, "one for each image"),
        ({"coarse": np.array([0, 5])}, "coarse must be in"),
        ({"synthetic": True}, "SYNTHETIC"),
        ({"source": "SYNTHETIC of a kind"}, "SYNTHETIC"),
    ],
)
def test_a_dataset_that_breaks_a_rule_is_refused(change, rule):
    fields = {
        "images": np.zeros((2, 3, 4, 4), np.uint8),
        "labels": np.array([0, 1]),
        "coarse": np.array([0, 0]),
        "class_names": ("a", "b"),
        "coarse_names": ("c",),
        "source": "a test",
        "synthetic": False,
    }
    assert len(Dataset(**fields)) == 2
    with pytest.raises(DataError, match=rule):
        Dataset(**{**fields, **change})
