"""A file appears whole under its name, or not at all."""

import os
import stat

import pytest

from pymobilenet.files import atomic_write


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


def test_a_folder_that_is_not_there_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "absent" / "file"):
        pass
    assert not list(tmp_path.iterdir())
