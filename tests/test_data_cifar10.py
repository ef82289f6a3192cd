"""Reading of CIFAR-10 in every official form."""

import os

import pytest
from cifar10_files import (
    FILES,
    FOLDERS,
    NAMES,
    WRITERS,
    batch_dict,
    content_of_split,
    write_archive,
    write_binary_layout,
    write_python_layout,
)
from cifar_files import SUFFIXES, python2_pickle
from cifar_files import write_archive as write_archive_100

from pymobilenet.data import CIFAR10_MEAN, CIFAR10_STD, load_cifar10, load_cifar100
from pymobilenet.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYMOBILENET_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def check(path, split):
    data = load_cifar10(path, split)
    images, labels = content_of_split(split)
    assert (data.images == images).all()
    assert data.images.flags.c_contiguous
    assert data.labels.tolist() == labels.tolist()
    assert (data.coarse, data.coarse_names) == (None, ())
    assert data.class_names == tuple(NAMES)
    assert data.statistics == (CIFAR10_MEAN, CIFAR10_STD)
    assert not data.synthetic
    return data


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("layout", ["binary", "python"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_folder_of_either_layout(tmp_path, layout, split, nested):
    WRITERS[layout](tmp_path / FOLDERS[layout])
    data = check(tmp_path if nested else tmp_path / FOLDERS[layout], split)
    word = {"binary": "binary", "python": "Python"}[layout]
    assert data.source == f"CIFAR-10 ({word} layout), {split}, {FOLDERS[layout]}"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("layout", ["binary", "python"])
def test_an_archive_of_either_layout_is_unpacked_once(tmp_path, cache, layout, suffix, monkeypatch):
    path = write_archive(tmp_path / f"cifar-10-{layout}{suffix}", layout)
    assert check(path, "train").source.endswith(f"train, {path.name}")
    monkeypatch.setattr("pymobilenet.data.cache.read_members", None)
    check(tmp_path, "test")
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("name", [*FILES["train"], "test_batch", "batches.meta.txt"])
def test_a_missing_file_is_named(tmp_path, name):
    write_binary_layout(tmp_path / "data")
    name = name if name.endswith(".txt") else f"{name}.bin"
    (tmp_path / "data" / name).unlink()
    split = "test" if name == "test_batch.bin" else "train"
    with pytest.raises(
        DataError, match=f"{name} is missing: the folder contains other files of CIFAR-10, but"
    ):
        load_cifar10(tmp_path / "data", split)


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 4 * 3073 - 1])
def test_a_truncated_binary_file_is_refused_by_size(tmp_path, size):
    write_binary_layout(tmp_path / "data")
    path = tmp_path / "data" / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=rf"_4\.bin: {size} bytes; .*multiple of 3073"):
        load_cifar10(tmp_path / "data")


def test_a_label_out_of_range_is_named_with_its_place(tmp_path):
    write_binary_layout(tmp_path / "data")
    path = tmp_path / "data" / "data_batch_4.bin"
    content = bytearray(path.read_bytes())
    content[2 * 3073] = 10
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"_4\.bin: label 10 at byte 6146; it must be below 10"):
        load_cifar10(tmp_path / "data")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"labels": [0, 1, 10]}, r"'labels' must hold integers in \[0, 10\). Received: 10"),
        ({"labels": [0]}, "'labels' must be a list of 3 integers"),
        ({"fine_labels": [0]}, r"exactly the keys \['batch_label', 'data', .*'labels'\]"),
    ],
)
def test_a_pickle_with_wrong_content_is_refused(tmp_path, change, rule):
    write_python_layout(tmp_path / "data")
    content = python2_pickle({**batch_dict("data_batch_1"), **change})
    (tmp_path / "data" / "data_batch_1").write_bytes(b"\x80\x02" + content + b".")
    with pytest.raises(DataError, match=f"data_batch_1: .*{rule}"):
        load_cifar10(tmp_path / "data")


def test_a_pickle_that_calls_something_is_refused(tmp_path):
    write_python_layout(tmp_path / "data")
    (tmp_path / "data" / "batches.meta").write_bytes(b"\x80\x02cos\nsystem\nU\x04true\x85R.")
    with pytest.raises(DataError, match=r"batches\.meta: names the global os\.system"):
        load_cifar10(tmp_path / "data")


def test_neither_data_set_passes_for_the_other(tmp_path):
    ten = write_archive(tmp_path / "cifar-10-binary.tar.gz", "binary")
    hundred = write_archive_100(tmp_path / "cifar-100-binary.tar.gz", "binary")
    with pytest.raises(DataError, match=r"10-binary.tar.gz: contains none of .*train\.bin"):
        load_cifar100(ten)
    with pytest.raises(DataError, match=r"100-binary.tar.gz: contains none of .*data_batch_1\.bin"):
        load_cifar10(hundred)
    write_binary_layout(tmp_path / "data")
    with pytest.raises(DataError, match="no CIFAR-100 at"):
        load_cifar100(tmp_path / "data")
    assert (len(load_cifar10(tmp_path)), len(load_cifar100(tmp_path))) == (12, 12)


@pytest.mark.skipif(
    "PYMOBILENET_TEST_DATA" not in os.environ,
    reason="PYMOBILENET_TEST_DATA names no folder with the real images",
)
def test_a_tenth_of_the_real_images_has_about_the_published_mean_and_deviation():
    from pymobilenet.data import load_image_folder

    path = f"{os.environ['PYMOBILENET_TEST_DATA']}/cifar-10-subset.tar"
    data = load_image_folder(path)
    assert data.images.shape == (5000, 3, 32, 32)
    assert data.mean == pytest.approx(CIFAR10_MEAN, abs=0.005)
    assert data.std == pytest.approx(CIFAR10_STD, abs=0.005)
