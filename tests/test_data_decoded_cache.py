"""The cache of decoded image folders: when it is used, and when images are decoded again."""

import os
import pickle
import time
from collections import namedtuple

import numpy as np
import PIL
import pytest
from cached_folders import files_of, is_decoding, load
from image_files import FORMS, pixels_of, png, split_files, write_folder, write_tar

from pymobilenet.data import decoded_cache, image_folder, load_image_folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of the entries; images are kept however fast they are decoded."""
    monkeypatch.setenv("PYMOBILENET_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv(decoded_cache.BYTES_VARIABLE, raising=False)
    monkeypatch.setattr(image_folder, "MIN_SECONDS", 0.0)
    return tmp_path / "cache" / "decoded"


@pytest.fixture
def pets(tmp_path):
    return write_folder(tmp_path / "pets", split_files())


def forbid_decoding(*_):
    raise AssertionError("decoded")


@pytest.mark.parametrize("resolution", [None, 4])
@pytest.mark.parametrize("form", FORMS)
def test_a_folder_is_decoded_once_and_the_cache_has_the_same_bits(
    tmp_path, monkeypatch, form, resolution
):
    path = FORMS[form](tmp_path / "pets", split_files())
    splits = ("train", "test")
    first = [load_image_folder(path, split, resolution, report=[].append) for split in splits]
    first_statistics = first[0].statistics, first[1].statistics()
    monkeypatch.setattr(image_folder, "decode", forbid_decoding)
    again = [load_image_folder(path, split, resolution, report=[].append) for split in splits]
    for before, after in zip(first, again, strict=True):
        assert (before.digest(), before.source) == (after.digest(), after.source)
        assert before.images.shape == after.images.shape
        assert before.class_names == after.class_names
        assert not after.images.flags.writeable
        assert after.images.flags.c_contiguous
    assert (again[0].statistics, again[1].statistics()) == first_statistics


def test_each_use_is_said_in_a_line_with_folder_and_size(pets, cache):
    notes = []
    load(pets, notes=notes)
    load(pets, notes=notes)
    (name,) = files_of(cache)
    assert notes == [
        f"{pets}: 5 images (0.0 MB) kept in the cache for the next run, {cache / name}; "
        "PYMOBILENET_CACHE_BYTES=0 keeps none",
        f"{pets}: 5 images (0.0 MB) read from the cache, {cache / name}",
    ]


def replace_content(path):
    """Other pixels in a file of the same size and time of modification."""
    file = path / "train/cat/x.png"
    status, content = file.stat(), bytearray(file.read_bytes())
    time.sleep(0.02)  # the system's clock for files has a resolution of some milliseconds
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(path):
    os.utime(path / "train/cat/x.png", ns=(0, 0))


def add_file(path):
    (path / "train/cat/z.png").write_bytes(png(pixels_of(9)))


def remove_file(path):
    (path / "train/cat/x.png").unlink()


def rename_file(path):
    (path / "train/cat/x.png").rename(path / "train/cat/a.png")


def change_size(path):
    file = path / "train/cat/x.png"
    file.write_bytes(file.read_bytes() + b"trailing bytes")


def update_pillow(monkeypatch):
    monkeypatch.setattr(PIL, "__version__", "99.0")


def update_jpeg_library(monkeypatch):
    monkeypatch.setattr("PIL.features.version", lambda name: "99" if name == "jpg" else None)


def change_format(monkeypatch):
    monkeypatch.setattr(decoded_cache, "_VERSION", 0)


@pytest.mark.parametrize(
    "change", [replace_content, touch, add_file, remove_file, rename_file, change_size]
)
def test_a_changed_folder_is_decoded_again(pets, monkeypatch, change):
    load(pets)
    assert not is_decoding(pets, monkeypatch)
    change(pets)
    assert is_decoding(pets, monkeypatch)
    assert not is_decoding(pets, monkeypatch)


@pytest.mark.parametrize("change", [update_pillow, update_jpeg_library, change_format])
def test_images_of_another_decoder_are_decoded_again(pets, monkeypatch, change):
    load(pets)
    change(monkeypatch)
    assert is_decoding(pets, monkeypatch)
    assert not is_decoding(pets, monkeypatch)


def test_an_archive_that_is_replaced_is_decoded_again(tmp_path, monkeypatch):
    files = split_files()
    path = write_tar(tmp_path / "pets.tar", files)
    load(path)
    time.sleep(0.02)  # see `replace_content`
    write_tar(path, {**files, "train/cat/x.png": files["train/cat/y.png"]})
    assert is_decoding(path, monkeypatch)


@pytest.mark.parametrize("part", ["size", "st_mtime_ns", "st_ctime_ns"])
def test_size_and_both_times_of_a_file_are_parts_of_the_key(tmp_path, monkeypatch, part):
    status = namedtuple("Status", "st_size st_mtime_ns st_ctime_ns")(1, 2, 3)
    other = status._replace(**{"st_size" if part == "size" else part: 9})
    monkeypatch.setattr(decoded_cache, "_decoders", list)
    keys = []
    for one in (status, other):
        with monkeypatch.context() as context:
            context.setattr(decoded_cache.os, "stat", lambda _, one=one: one)
            context.setattr(decoded_cache.Path, "is_dir", lambda _: True)
            keys.append(decoded_cache._key(tmp_path, ["a"], None))
    assert keys[0] != keys[1]


def test_another_resolution_is_another_entry(pets, cache, monkeypatch):
    load(pets)
    assert is_decoding(pets, monkeypatch, resolution=4)
    assert is_decoding(pets, monkeypatch, resolution=5)
    assert not is_decoding(pets, monkeypatch, resolution=4)
    assert len(files_of(cache)) == 3


def test_files_that_change_while_they_are_decoded_are_not_kept(pets, cache, monkeypatch):
    decode = image_folder.decode

    def decode_and_change(*arguments):
        touch(pets)
        return decode(*arguments)

    monkeypatch.setattr(image_folder, "decode", decode_and_change)
    notes = []
    load(pets, notes=notes)
    assert files_of(cache) == []
    assert notes[0].endswith("not kept in the cache: files changed while they were decoded")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip_a_pixel(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def write_other_images(path):
    np.savez(path, images=np.zeros((4, 3, 6, 6), np.uint8))


def write_other_sizes(path):
    np.savez(path, images=np.zeros((5, 3, 7, 7), np.uint8))


def write_floats(path):
    np.savez(path, images=np.zeros((5, 3, 6, 6), np.float32))


def write_other_names(path):
    np.savez(path, pixels=np.zeros((5, 3, 6, 6), np.uint8))


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def write_objects(path):
    np.savez(path, images=np.array([Exploit()]), allow_pickle=True)


def write_pickle(path):
    path.write_bytes(pickle.dumps(Exploit()))


def write_nothing(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_pixel,
        write_other_images,
        write_other_sizes,
        write_floats,
        write_other_names,
        write_objects,
        write_pickle,
        write_nothing,
    ],
)
def test_a_damaged_entry_is_said_and_replaced(pets, cache, monkeypatch, damage):
    before = load_image_folder(pets, "train", 6, report=[].append)
    (name,) = files_of(cache)
    damage(cache / name)
    notes = []
    after = load_image_folder(pets, "train", 6, report=notes.append)
    assert before.digest() == after.digest()
    assert notes[0].startswith(f"{pets}: decoded again, {cache / name} cannot be read (")
    assert "kept in the cache" in notes[1]
    assert not is_decoding(pets, monkeypatch, resolution=6)


def test_a_damaged_entry_is_removed_even_if_none_replaces_it(pets, cache, monkeypatch):
    load(pets)
    (entry,) = cache.glob("*")
    truncate(entry)
    monkeypatch.setattr(image_folder, "MIN_SECONDS", 1e9)
    load(pets)
    assert files_of(cache) == []
