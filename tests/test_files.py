"""Files are written atomically."""

import os
import socket
import stat
import subprocess
import sys

import pytest

from pymobilenet.errors import ConfigError
from pymobilenet.files import atomic_write, make_folder


def fail(*_):
    raise OSError("disk error")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path / "file"


def assert_untouched(path):
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_an_error_while_writing_leaves_only_the_old_file(path, error):
    def interrupted():
        yield b"new"
        raise error

    with pytest.raises(error), atomic_write(path) as file:
        file.writelines(interrupted())
    assert_untouched(path)


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace"])
def test_an_error_at_the_end_leaves_only_the_old_file(path, monkeypatch, call):
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="disk error"), atomic_write(path) as file:
        file.write(b"new")
    assert_untouched(path)


def test_a_new_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"first")
        file.flush()
        assert not path.exists()
        file.write(b"second")
    assert path.read_bytes() == b"firstsecond"


def test_all_bytes_are_on_disk_before_the_rename(path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace

    def record_size(handle):
        events.append(os.fstat(handle).st_size)
        fsync(handle)

    def record_name(old, new):
        events.append(os.path.basename(new))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", record_size)
    monkeypatch.setattr(os, "replace", record_name)
    with atomic_write(path) as file:
        file.write(b"new content")
    assert events == [11, "file"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_new_file_has_the_default_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file"):
            pass
    finally:
        assert os.umask(before) == 0o027
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_missing_folder_is_named_and_not_created(tmp_path):
    with pytest.raises(FileNotFoundError) as info, atomic_write(tmp_path / "absent" / "file"):
        pass
    assert info.value.filename == str(tmp_path / "absent")
    assert not list(tmp_path.iterdir())


FULL = """
import resource, sys
from pymobilenet.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with atomic_write(sys.argv[1]) as file:
    file.write(bytes(2000))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit for file sizes")
def test_the_error_of_a_full_disk_names_the_file(path):
    process = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    assert process.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{path}'"
    assert_untouched(path)


def test_a_path_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as info, atomic_write(tmp_path / "folder"):
        pass
    assert (info.value.filename, info.value.filename2) == (str(tmp_path / "folder"), None)


def test_a_symbolic_link_is_kept_and_its_target_is_written(path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    link.symlink_to(path)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in link.parent.iterdir()] == ["link"]


def test_a_link_to_nothing_creates_the_file_it_points_to(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "new")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").read_bytes() == b"new"


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def make_device(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("creating a device file requires root, or the capability CAP_MKNOD")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize(
    ("make", "kind"),
    [(make_pipe, "a named pipe"), (make_socket, "a socket"), (make_device, "a device")],
)
def test_special_files_are_never_replaced(tmp_path, make, kind):
    make(tmp_path / "file")
    before = (tmp_path / "file").lstat()
    rule = f"must be a regular file or a new one. Received: {kind}"
    for name in ("file", "link"):
        if name == "link":
            (tmp_path / "link").symlink_to(tmp_path / "file")
        with pytest.raises(OSError, match=rule) as info, atomic_write(tmp_path / name):
            pass
        assert info.value.filename == str(tmp_path / name)
    after = (tmp_path / "file").lstat()
    assert (before.st_mode, before.st_rdev, before.st_ino) == (
        after.st_mode,
        after.st_rdev,
        after.st_ino,
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps one bit of a mode")
def test_a_replaced_file_keeps_its_mode(path):
    path.chmod(0o640)
    with atomic_write(path) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_other_hard_links_keep_the_old_content(path, tmp_path):
    os.link(path, tmp_path / "other")
    with atomic_write(path) as file:
        file.write(b"new")
    assert (tmp_path / "other").read_bytes() == b"old"


def test_an_error_of_another_file_keeps_its_name(path, tmp_path):
    with pytest.raises(FileNotFoundError) as info, atomic_write(path) as file:
        file.write((tmp_path / "other").read_bytes())
    assert info.value.filename == str(tmp_path / "other")


def test_a_folder_is_created_with_its_parents(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_an_output_folder_that_is_a_file_is_refused(path, name):
    with pytest.raises(ConfigError, match=rf"output folder must be a folder.*Received: .*{name}"):
        make_folder(path.parent / name)
    assert_untouched(path)


def test_an_output_folder_that_is_not_writable_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match=rf"must be writable. Received: {tmp_path}"):
        make_folder(tmp_path)
