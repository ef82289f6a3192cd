"""Malicious or damaged archives and folders: errors name the file, and no link is followed."""

import io
import os
import stat
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import pixels_of, png, split_files, write_folder, write_tar, write_zip

from pymobilenet.data import load_image_folder
from pymobilenet.data.image_files import list_images
from pymobilenet.errors import DataError

IMAGE = png(pixels_of(0))


@pytest.mark.parametrize("name", ["../train/cat/x.png", "/train/cat/x.png", "train/../../x.png"])
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_a_path_out_of_an_archive_is_an_error(tmp_path, write, name):
    path = write(tmp_path / "archive", {**split_files(), name: IMAGE})
    with pytest.raises(DataError, match=rf"archive: the name '{name}' leads out of the archive"):
        load_image_folder(path)
    assert os.listdir(tmp_path) == ["archive"]


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", split_files())
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("./train/dog/a.png")
        tar.addfile(info, io.BytesIO())
    with pytest.raises(
        DataError, match=r"a\.tar: contains more than one file .*'train/dog/a\.png'"
    ):
        load_image_folder(path)


def test_links_are_not_followed(tmp_path):
    outside = write_folder(tmp_path / "outside", {"secret.png": IMAGE})
    folder = write_folder(tmp_path / "pets", split_files())
    (folder / "train" / "dog" / "link.png").symlink_to(outside / "secret.png")
    (folder / "train" / "cow").symlink_to(outside)
    os.mkfifo(folder / "train" / "dog" / "pipe.png")
    listing = list_images(folder)
    assert listing.images == sorted(split_files())
    assert listing.others == ["train/cow/", "train/dog/link.png/", "train/dog/pipe.png/"]
    messages = []
    assert load_image_folder(folder, report=messages.append).class_names == ("cat", "dog")
    assert "train/cow/, train/dog/link.png/" in messages[0]


def test_links_in_archives_are_not_followed(tmp_path):
    tar_path, zip_path = (
        write(tmp_path / name, split_files())
        for name, write in (("t", write_tar), ("z", write_zip))
    )
    with tarfile.open(tar_path, "a") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"train/dog/{kind.decode()}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    with zipfile.ZipFile(zip_path, "a") as file:
        member = zipfile.ZipInfo("train/dog/link.png")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, "/etc/passwd")
    assert list_images(tar_path).images == list_images(zip_path).images == sorted(split_files())
    assert list_images(tar_path).others == [f"train/dog/{k}.png/" for k in (1, 2, 3)]
    assert list_images(zip_path).others == ["train/dog/link.png/"]


def test_the_folder_itself_may_be_a_link(tmp_path):
    folder = write_folder(tmp_path / "pets", split_files())
    (tmp_path / "link").symlink_to(folder)
    assert len(load_image_folder(tmp_path / "link")) == 5


@pytest.mark.parametrize("write", [lambda *a: write_tar(*a, "w:gz"), write_zip])
def test_a_bomb_is_refused(tmp_path, monkeypatch, write):
    monkeypatch.setattr("pymobilenet.data.image_files._SLACK", 2**16)
    path = write(tmp_path / "bomb", {**split_files(), "train/dog/big.png": bytes(2**23)})
    with pytest.raises(DataError, match="bomb: must unpack to at most"):
        load_image_folder(path)


def test_a_zip_that_lies_about_sizes_is_bounded(tmp_path):
    path = write_zip(tmp_path / "a.zip", {**split_files(), "train/dog/z.png": bytes(2**20)})
    content = bytearray(path.read_bytes())
    true_size, small = (2**20).to_bytes(4, "little"), (100).to_bytes(4, "little")
    assert content.count(true_size) == 2
    path.write_bytes(content.replace(true_size, small))
    with pytest.raises(DataError, match=r"a\.zip: train/dog/z\.png cannot be read: .*CRC"):
        load_image_folder(path)


@pytest.mark.parametrize("form", ["tar", "zip", "folder"])
def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch, form):
    monkeypatch.setattr("pymobilenet.data.image_files.MAX_FILE_BYTES", 999)
    files = {**split_files(), "train/dog/b.PNG": bytes(1000)}
    writer = {"tar": write_tar, "zip": write_zip, "folder": write_folder}[form]
    with pytest.raises(DataError, match=r"b\.PNG: an image file must have at most 999 bytes"):
        load_image_folder(writer(tmp_path / "pets", files))


@pytest.mark.parametrize("write", [write_tar, lambda *a: write_tar(*a, "w:xz"), write_zip])
def test_a_truncated_archive_is_refused(tmp_path, write):
    path = write(tmp_path / "archive", split_files())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"archive.* (truncated or not a tar|neither a folder)"):
        load_image_folder(path)


def test_a_tar_cut_between_its_members_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", split_files())
    content = path.read_bytes()
    for end in range(1024, len(content.rstrip(b"\0")), 512):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match=r"a\.tar \(\d+ bytes\) is truncated"):
            load_image_folder(path)


def test_a_damaged_member_of_a_zip_is_named(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in split_files().items():
            file.writestr(name, content)
    content = path.read_bytes()
    image = split_files()["train/dog/a.png"]
    path.write_bytes(content.replace(image, image[:-1] + b"x", 1))
    with pytest.raises(DataError, match=r"a\.zip: train/dog/a\.png cannot be read: Bad CRC"):
        load_image_folder(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", split_files())
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + offset] |= 1
            start = content.find(mark, start + 1)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read: .*encrypted"):
        load_image_folder(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    folder = write_folder(tmp_path / "pets", split_files())
    (folder / "train" / "dog").chmod(0)
    try:
        with pytest.raises(DataError, match=r"dog: cannot be read \(Permission denied\)"):
            load_image_folder(folder)
    finally:
        (folder / "train" / "dog").chmod(0o755)


def test_a_member_of_a_zip_without_a_name_is_passed_over(tmp_path):
    files = split_files()
    path = write_zip(tmp_path / "archive.zip", {**files, "x": b"not an image"})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # of the last member, in the directory at the end
    content[entry + 46] = 0  # where Python ends a name
    path.write_bytes(content)
    messages = []
    data = load_image_folder(path, "test", report=messages.append)
    assert len(data) == 3
    assert messages
    assert all("ignored" in message for message in messages)


@pytest.mark.parametrize("write", [write_tar, lambda *a: write_tar(*a, "w:gz"), write_zip])
def test_an_archive_with_changed_bytes_gives_images_or_a_data_error(tmp_path, write):
    original = write(tmp_path / "archive", split_files()).read_bytes()
    headers = [header for header in range(0, len(original), 16) if header % 512 < 320]

    @settings(deadline=None, database=None, max_examples=150)
    @given(
        changes=st.lists(
            st.tuples(st.sampled_from(headers), st.integers(0, 15), st.integers(0, 255)),
            min_size=1,
            max_size=4,
        )
    )
    def check(changes):
        content = bytearray(original)
        for header, offset, value in changes:
            content[min(header + offset, len(content) - 1)] = value
        (tmp_path / "archive").write_bytes(content)
        try:
            data = load_image_folder(tmp_path / "archive", "test", on_corrupt="skip", report=str)
        except DataError:
            return
        assert data.images.shape[1:] == (3, 6, 6)

    check()
