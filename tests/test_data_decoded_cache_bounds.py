"""The bounds of the cache of decoded image folders, and disks that cannot hold it."""

import errno
import os
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
from cached_folders import files_of, is_decoding, load
from image_files import split_files, write_folder

from pymobilenet.data import decoded_cache, image_folder, load_image_folder
from pymobilenet.errors import ConfigError, DataError

SIZE = 5 * 3 * 6 * 6
"""Bytes of the decoded training images."""


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


def test_zero_bytes_turn_the_cache_off(pets, cache, monkeypatch):
    load(pets)
    monkeypatch.setenv("PYMOBILENET_CACHE_BYTES", "0")
    notes = []
    load(pets, notes=notes)
    assert is_decoding(pets, monkeypatch)
    load(pets, "test", notes=notes)
    assert notes == []
    assert len(files_of(cache)) == 1


@pytest.mark.parametrize("text", ["8 GB", "-1", "1e9", "²", "9" * 5000])
def test_the_bound_must_be_a_number_of_bytes(pets, monkeypatch, text):
    monkeypatch.setenv("PYMOBILENET_CACHE_BYTES", text)
    with pytest.raises(ConfigError, match=f"PYMOBILENET_CACHE_BYTES must be.*Received: {text!r}"):
        load(pets)


def test_entries_that_were_not_used_for_longest_are_removed_first(tmp_path, cache, monkeypatch):
    """Space for two entries, and three folders; a file that a killed process left counts too."""
    folders = [write_folder(tmp_path / name, split_files()) for name in "abc"]
    cache.mkdir(parents=True)
    leftover = cache / f".{'0' * 64}.npz.killed.tmp"
    leftover.write_bytes(bytes(2 * SIZE))
    os.utime(leftover, ns=(0, 0))
    (cache / "other.txt").write_text("not an entry")
    monkeypatch.setenv("PYMOBILENET_CACHE_BYTES", str(2 * (SIZE + 1024)))
    for number, folder in enumerate(folders[:2]):
        load(folder)
        (newest,) = [path for path in cache.glob("*.npz") if path.stat().st_mtime_ns > 10]
        os.utime(newest, ns=(number + 1, number + 1))
    assert not leftover.exists()
    load(folders[0])  # the older one is used, and now the newer one
    load(folders[2])
    assert len(list(cache.glob("*.npz"))) == 2
    assert (cache / "other.txt").exists()
    assert sum(path.stat().st_size for path in cache.glob("*.npz")) <= 2 * (SIZE + 1024)
    assert [is_decoding(folder, monkeypatch) for folder in (folders[0], folders[2])] == [False] * 2
    assert is_decoding(folders[1], monkeypatch)


def test_images_larger_than_the_bound_are_not_kept_and_remove_nothing(tmp_path, pets, monkeypatch):
    load(pets)
    other = write_folder(tmp_path / "other", split_files(12, 12))
    monkeypatch.setenv("PYMOBILENET_CACHE_BYTES", str(SIZE + 1024))
    notes = []
    load(other, notes=notes)
    assert notes == [
        f"{other}: 5 images (0.0 MB) not kept in the cache: PYMOBILENET_CACHE_BYTES is 1564 bytes"
    ]
    assert not is_decoding(pets, monkeypatch)


def test_a_full_disk_keeps_two_gigabytes_free(tmp_path, pets, cache, monkeypatch):
    load(pets)
    other = write_folder(tmp_path / "other", split_files())
    usage = namedtuple("Usage", "free")
    monkeypatch.setattr(decoded_cache.shutil, "disk_usage", lambda _: usage(2 * 10**9 + SIZE))
    notes = []
    load(other, notes=notes)
    assert "not kept in the cache: only 2.0 GB are free on the disk of" in notes[0]
    assert len(files_of(cache)) == 1
    monkeypatch.setattr(decoded_cache.shutil, "disk_usage", lambda _: usage(3 * 10**9))
    load(other)
    assert len(files_of(cache)) == 2


def test_an_error_while_an_entry_is_written_leaves_no_file(pets, cache, monkeypatch):
    def fill_disk(file, images):
        file.write(images.tobytes()[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(decoded_cache.np, "savez", fill_disk)
    notes = []
    assert len(load(pets, notes=notes)) == 5
    assert "not kept in the cache: [Errno 28] No space left on device" in notes[0]
    assert files_of(cache) == []


def test_a_cache_folder_that_cannot_be_written_is_said(pets, tmp_path):
    (tmp_path / "cache").write_text("a file, where the folder would be")
    notes = []
    assert len(load(pets, notes=notes)) == 5
    assert len(notes) == 1
    assert "not kept in the cache: [Errno " in notes[0]


def test_an_account_without_a_home_folder_has_no_cache(pets, monkeypatch):
    def refuse():
        raise DataError("no home folder")

    monkeypatch.setattr(decoded_cache, "cache_dir", refuse)
    notes = []
    assert len(load(pets, notes=notes)) == 5
    assert notes == []


def test_folders_with_corrupt_files_are_not_kept(pets, cache):
    (pets / "train/cat/x.png").write_bytes(b"no image")
    data = load_image_folder(pets, "train", on_corrupt="skip", report=[].append)
    assert len(data) == 4
    assert files_of(cache) == []


def test_images_that_are_decoded_quickly_are_not_kept(pets, cache, monkeypatch):
    monkeypatch.setattr(image_folder, "MIN_SECONDS", decoded_cache.MIN_SECONDS)
    seconds = iter([10.0, 10.9, 20.0, 21.0])
    monkeypatch.setattr(image_folder.time, "perf_counter", lambda: next(seconds))
    load(pets)
    assert files_of(cache) == []
    load(pets)
    assert len(files_of(cache)) == 1


def test_loads_at_the_same_time_share_an_entry(pets, cache):
    """Some write it while others read it; none reads a part of it."""
    expected, notes = load(pets).digest(), []
    (entry,) = cache.glob("*.npz")

    def load_repeatedly(number):
        for _ in range(10):
            if number == 0:
                entry.unlink(missing_ok=True)
            yield load_image_folder(pets, "train", report=notes.append).digest()

    with ThreadPoolExecutor(4) as pool:
        digests = [*pool.map(lambda number: [*load_repeatedly(number)], range(4))]
    assert {digest for group in digests for digest in group} == {expected}
    assert not [note for note in notes if "cannot be read" in note or "not kept" in note]
    assert files_of(cache) == [entry.name]
