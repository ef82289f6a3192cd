"""Reading of CIFAR-100 in every official form, and errors for other files."""

import io
import os
import tarfile

import numpy as np
import pytest
from cifar_files import SUFFIXES, WRITERS, check, write_archive, write_binary_layout

from pymobilenet.data import CIFAR100_MEAN, CIFAR100_STD, archive, load_cifar100
from pymobilenet.errors import DataError
from pymobilenet.evaluation.names import OFFICIAL


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYMOBILENET_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("layout", ["binary", "python"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_folder_of_either_layout(tmp_path, layout, split, nested):
    WRITERS[layout](tmp_path / f"cifar-100-{layout}")
    data = check(tmp_path if nested else tmp_path / f"cifar-100-{layout}", split)
    word = {"binary": "binary", "python": "Python"}[layout]
    assert data.source == f"CIFAR-100 ({word} layout), {split}, cifar-100-{layout}"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("layout", ["binary", "python"])
def test_an_archive_of_either_layout_is_unpacked_once(tmp_path, cache, layout, suffix, monkeypatch):
    path = write_archive(tmp_path / f"cifar-100-{layout}{suffix}", layout)
    data = check(path, "train")
    assert data.source.endswith(f"train, {path.name}")
    monkeypatch.setattr("pymobilenet.data.cache.read_members", None)
    check(tmp_path, "test")
    assert len(list(cache.iterdir())) == 1


def test_an_archive_is_known_by_its_content(tmp_path):
    path = write_archive(tmp_path / "a.tar.xz", "binary")
    check(path.rename(tmp_path / "images.dat"), "test")


@pytest.mark.parametrize("size", [0, 1, 3073, 3075, 12 * 3074 - 1])
def test_a_truncated_binary_file_is_refused_by_size(tmp_path, size):
    write_binary_layout(tmp_path / "data")
    path = tmp_path / "data" / "train.bin"
    path.write_bytes((path.read_bytes() * 2)[:size])
    with pytest.raises(DataError, match=rf"train\.bin: {size} bytes; .*multiple of 3074"):
        load_cifar100(tmp_path / "data")


@pytest.mark.parametrize(("offset", "value", "kind"), [(0, 20, "coarse"), (1, 100, "fine")])
def test_a_binary_label_out_of_range_is_named_with_its_offset(tmp_path, offset, value, kind):
    write_binary_layout(tmp_path / "data")
    path = tmp_path / "data" / "test.bin"
    content = bytearray(path.read_bytes())
    content[2 * 3074 + offset] = value
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=rf"test\.bin: {kind} label {value} at byte {6148 + offset}"
    ):
        load_cifar100(tmp_path / "data", "test")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"only\ntwo\n", "100 different label names. Received: 2"),
        (b"same\n" * 100, "100, 1 of them different"),
        (b"caf\xe9\n" * 100, "must be ASCII; byte 3"),
    ],
)
def test_wrong_label_names_are_refused(tmp_path, content, rule):
    write_binary_layout(tmp_path / "data")
    (tmp_path / "data" / "fine_label_names.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"fine_label_names.txt.*{rule}"):
        load_cifar100(tmp_path / "data")


@pytest.mark.parametrize(
    ("layout", "name"),
    [("binary", "train.bin"), ("binary", "coarse_label_names.txt"), ("python", "meta")],
)
def test_a_missing_file_is_named(tmp_path, layout, name):
    WRITERS[layout](tmp_path / "data")
    (tmp_path / "data" / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        load_cifar100(tmp_path / "data")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
def test_a_truncated_archive_is_refused_and_leaves_nothing(tmp_path, cache, suffix):
    path = write_archive(tmp_path / f"cifar-100-binary{suffix}", "binary")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"cifar-100-binary{suffix} .*truncated"):
        load_cifar100(path)
    assert not cache.exists()


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.xz"])
def test_a_damaged_archive_is_refused(tmp_path, cache, suffix):
    path = write_archive(tmp_path / f"cifar-100-binary{suffix}", "binary")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"cifar-100-binary{suffix}"):
        load_cifar100(path)
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ([("other/train.bin", b"x")], "more than one file called 'train.bin'"),
        ([("bomb", bytes(3 * 2**20))], "must unpack to at most"),
    ],
)
def test_an_archive_outside_the_bounds_is_refused(tmp_path, cache, monkeypatch, members, rule):
    monkeypatch.setattr(archive, "MAX_BYTES", 2**20)
    path = write_archive(tmp_path / "cifar-100-binary.tar.gz", "binary", members)
    with pytest.raises(DataError, match=rule):
        load_cifar100(path)
    assert not cache.exists()


def test_bad_content_in_an_archive_is_refused_before_it_reaches_the_cache(tmp_path, cache):
    path = tmp_path / "cifar-100-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("test.bin")
        info.size = 100
        tar.addfile(info, io.BytesIO(bytes(100)))
    with pytest.raises(DataError, match=r"cifar-100-binary.tar.gz: .*test\.bin: 100 bytes"):
        load_cifar100(path)
    assert list(cache.iterdir()) == []


def test_links_and_folders_in_an_archive_are_not_followed(tmp_path, cache):
    path = tmp_path / "cifar-100-binary.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("train.bin", tarfile.SYMTYPE), ("test.bin", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    with pytest.raises(DataError, match="contains none of"):
        load_cifar100(path)
    assert not cache.exists()


def test_the_error_for_a_read_only_cache_names_the_variable(tmp_path, cache):
    path = write_archive(tmp_path / "cifar-100-binary.tar", "binary")
    cache.write_text("a file in the way")
    with pytest.raises(DataError, match="set PYMOBILENET_DATA"):
        load_cifar100(path)


@pytest.mark.parametrize("name", ["nowhere", "empty", "foreign.txt", "image.folder"])
def test_a_path_without_cifar_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "image.folder" / "train" / "apple").mkdir(parents=True)
    (tmp_path / "foreign.txt").write_text("hello")
    with pytest.raises(DataError, match=f"no CIFAR-100 at .*{name}"):
        load_cifar100(tmp_path / name)


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(DataError, match="Received: 'valid'"):
        load_cifar100(tmp_path, "valid")


@pytest.mark.slow
@pytest.mark.skipif(
    "PYMOBILENET_TEST_DATA" not in os.environ,
    reason="PYMOBILENET_TEST_DATA names no folder with the real images",
)
def test_the_real_images_have_the_published_mean_deviation_and_names():
    folder = os.environ["PYMOBILENET_TEST_DATA"]
    train, test = load_cifar100(folder, "train"), load_cifar100(folder, "test")
    assert (len(train), len(test)) == (50_000, 10_000)
    np.testing.assert_allclose(train.mean, CIFAR100_MEAN, atol=1e-4)
    np.testing.assert_allclose(train.std, CIFAR100_STD, atol=1e-4)
    assert np.bincount(train.labels).tolist() == [500] * 100
    assert np.bincount(test.labels).tolist() == [100] * 100
    pairs = set(zip(train.labels.tolist(), train.coarse.tolist(), strict=True))
    assert len(pairs) == 100
    assert train.class_names == test.class_names == OFFICIAL["cifar-100"]
    assert train.coarse_names[0] == "aquatic_mammals"
