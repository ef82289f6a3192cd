"""A file appears whole under its name, or not at all."""

import os
import stat
import subprocess
import sys

import pytest

from pymobilenet.errors import ConfigError
from pymobilenet.files import atomic_write, make_folder


def fail(*_):
    raise OSError("no luck")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path / "file"


def assert_untouched(path):
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(path, error):
    def interrupted():
        yield b"new"
        raise error

    with pytest.raises(error), atomic_write(path) as file:
        file.writelines(interrupted())
    assert_untouched(path)


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace"])
def test_an_error_at_the_end_leaves_the_old_file_and_nothing_else(path, monkeypatch, call):
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no luck"), atomic_write(path) as file:
        file.write(b"new")
    assert_untouched(path)


def test_a_new_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"first")
        file.flush()
        assert not path.exists()
        file.write(b"second")
    assert path.read_bytes() == b"firstsecond"


def test_all_bytes_are_on_the_disk_before_the_name_is_given(path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def note_size(handle):
        done.append(os.fstat(handle).st_size)
        fsync(handle)

    def note_name(old, new):
        done.append(os.path.basename(new))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_size)
    monkeypatch.setattr(os, "replace", note_name)
    with atomic_write(path) as file:
        file.write(b"new content")
    assert done == [11, "file"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_new_file_has_the_rights_of_any_other(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file"):
            pass
    finally:
        assert os.umask(before) == 0o027
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_folder_that_is_not_there_is_an_error_that_names_it_and_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError) as refused, atomic_write(tmp_path / "absent" / "file"):
        pass
    assert refused.value.filename == str(tmp_path / "absent")
    assert not list(tmp_path.iterdir())


FULL = """
import resource, sys
from pymobilenet.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with atomic_write(sys.argv[1]) as file:
    file.write(bytes(2000))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no process' files")
def test_where_there_is_no_room_the_error_names_the_file(path):
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{path}'"
    assert_untouched(path)


def test_a_name_that_is_taken_by_a_folder_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as refused, atomic_write(tmp_path / "folder"):
        pass
    assert (refused.value.filename, refused.value.filename2) == (str(tmp_path / "folder"), None)


def test_an_error_of_another_file_keeps_its_name(path, tmp_path):
    with pytest.raises(FileNotFoundError) as refused, atomic_write(path) as file:
        file.write((tmp_path / "other").read_bytes())
    assert refused.value.filename == str(tmp_path / "other")


def test_a_folder_is_made_with_those_above_it(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_to_write_into_that_is_a_file_is_refused(path, name):
    with pytest.raises(ConfigError, match=rf"must be a folder.*Received: .*{name}"):
        make_folder(path.parent / name)
    assert_untouched(path)


def test_a_folder_that_nothing_can_be_written_into_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match=rf"must be writable. Received: {tmp_path}"):
        make_folder(tmp_path)
