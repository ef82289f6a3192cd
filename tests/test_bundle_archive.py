"""The file of a bundle: what is written is what is unpacked, and nothing that was changed is."""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import tarfile
import tracemalloc

import pytest

from pymobilenet.backends.julia.bundle import archive, manifest
from pymobilenet.backends.julia.bundle.archive import open_archive, write_archive
from pymobilenet.backends.julia.bundle.info import BundleInfo
from pymobilenet.backends.julia.bundle.make import list_files
from pymobilenet.backends.julia.bundle.manifest import Manifest
from pymobilenet.errors import BackendUnavailable, ConfigError

INFO = BundleInfo(
    "0.1.0", "c0de", "0.9.34", "1.10.8", "linux", "x86_64", "2.17", "znver3", "/m", ""
)

FILES = {
    "depot/packages/Flux/ab/src/Flux.jl": b"module Flux end",
    "julia/bin/julia": b"#!/bin/sh\n",
    "julia/lib/libjulia.so.1": bytes(range(256)) * 9000,
    "project/Grün 中/Project.toml": b"",
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "staged"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(content)
    (folder / "julia/bin/julia").chmod(0o755)
    (folder / "julia/lib/libjulia.so").symlink_to("libjulia.so.1")
    (folder / "julia/lib64").symlink_to("lib")
    return folder


@pytest.fixture(params=["bundle.tar", "bundle.tar.gz"])
def bundle(request, folder, tmp_path):
    path = tmp_path / request.param
    write_archive(path, folder, list_files(folder, INFO))
    return path


def unpack(path, folder):
    folder.mkdir()
    with open_archive(path) as opened:
        opened.unpack(folder, lambda: None)


def test_a_bundle_unpacks_to_the_same_files_links_and_rights(bundle, tmp_path):
    unpack(bundle, tmp_path / "out")
    for name, content in FILES.items():
        path = tmp_path / "out" / name
        assert path.read_bytes() == content
        assert path.stat().st_mtime == 1
        assert os.access(path, os.X_OK) == (name == "julia/bin/julia")
    assert os.readlink(tmp_path / "out/julia/lib/libjulia.so") == "libjulia.so.1"
    assert os.readlink(tmp_path / "out/julia/lib64") == "lib"


def test_the_same_files_make_the_same_bytes(bundle, folder, tmp_path):
    again = tmp_path / f"again-{bundle.name}"
    digest = write_archive(again, folder, list_files(folder, INFO))
    assert again.read_bytes() == bundle.read_bytes()
    with open_archive(bundle) as opened:
        assert opened.digest == digest
        assert opened.manifest.info == INFO
        assert digest == hashlib.sha256(opened.manifest.to_json()).hexdigest()


def members(path):
    with tarfile.open(path) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]


def write(path, contents):
    with tarfile.open(path, "w") as tar:
        for member, content in contents:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))


def link(kind, target):
    member = tarfile.TarInfo("depot/packages/Flux/ab/src/Flux.jl")
    member.type, member.linkname = kind, target
    return member, b""


def renamed(entry, name):
    return tarfile.TarInfo(name), entry[1]


CHANGES = {
    "a changed byte of a file": (
        lambda c: [*c[:2], (c[2][0], b"module Flax end"), *c[3:]],
        "Flux.jl was changed",
    ),
    "a longer file": (lambda c: [*c[:2], (c[2][0], c[2][1] + b" "), *c[3:]], "16 bytes, not 15"),
    "a missing file": (lambda c: c[:-1], "Project.toml is missing"),
    "a file too many": (
        lambda c: [*c, (tarfile.TarInfo("julia/more"), b"x")],
        "'julia/more', which is not in the list",
    ),
    "two files exchanged": (lambda c: [*c[:2], c[3], c[2], *c[4:]], "must be a regular file at"),
    "a file outside": (
        lambda c: [*c[:2], renamed(c[2], "../outside"), *c[3:]],
        r"Received: '\.\./outside'",
    ),
    "an absolute file": (
        lambda c: [*c[:2], renamed(c[2], "/tmp/outside"), *c[3:]],
        "Received: '/tmp/outside'",
    ),
    "a link in place of a file": (
        lambda c: [*c[:2], link(tarfile.SYMTYPE, "/etc/passwd"), *c[3:]],
        "of another type",
    ),
    "a hard link": (
        lambda c: [*c[:2], link(tarfile.LNKTYPE, "manifest.json"), *c[3:]],
        "of another type",
    ),
    "a device": (lambda c: [*c[:2], link(tarfile.CHRTYPE, ""), *c[3:]], "of another type"),
    "a changed manifest": (
        lambda c: [c[0], (c[1][0], c[1][1].replace(b"1.10.8", b"1.10.9")), *c[2:]],
        "manifest.json was changed: its SHA-256",
    ),
    "no manifest": (lambda c: c[2:], r"manifest\.sha256 must be a regular file at"),
    "no file": (lambda _: [], "manifest.sha256 is missing"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_noticed_and_nothing_outside_is_written(bundle, tmp_path, kind):
    change, rule = CHANGES[kind]
    write(tmp_path / "changed.tar", change(members(bundle)))
    before = {*tmp_path.iterdir(), *tmp_path.parent.iterdir(), tmp_path / "out"}
    with pytest.raises(BackendUnavailable, match=rule) as raised:
        unpack(tmp_path / "changed.tar", tmp_path / "out")
    assert f"{tmp_path / 'changed.tar'} is not a bundle" in str(raised.value)
    assert before == {*tmp_path.iterdir(), *tmp_path.parent.iterdir()}


def test_a_truncated_or_flipped_file_is_noticed_wherever_it_is_cut(bundle, tmp_path):
    content = bundle.read_bytes()
    size = len(content)
    damaged = [content[:cut] for cut in (0, 1, 300, 512, 1400, size // 2, size * 3 // 4)]
    for place in range(100, size * 9 // 10, size // 15):
        damaged.append(content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :])
    refused = 0
    for number, one in enumerate(damaged):
        (tmp_path / "damaged").write_bytes(one)
        try:
            unpack(tmp_path / "damaged", tmp_path / f"out{number}")
        except BackendUnavailable:
            refused += 1
            continue
        # a bit of the padding after a member, or of a time or owner that is not used
        assert b"".join(content for _, content in members(tmp_path / "damaged")) == b"".join(
            content for _, content in members(bundle)
        )
    assert refused > len(damaged) * 0.8


def test_a_header_that_is_a_bomb_takes_no_memory(tmp_path):
    bomb = tmp_path / "bomb.tar.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 1 << 31
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(BackendUnavailable, match="more than 1048576 bytes are between two files"):
        unpack(bomb, tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def values(**changes):
    file = {"path": "julia/a", "size": 1, "sha256": "0" * 64, "executable": False}
    one = {"format_version": 1, "info": dataclasses.asdict(INFO), "files": [file], "links": []}
    return json.dumps(one | changes).encode(), file


def with_file(**changes):
    _, file = values()
    return values(files=[file | changes])[0]


def with_links(*links):
    return values(links=[{"path": path, "target": target} for path, target in links])[0]


PATHS = (
    *("../a", "/a", "julia/../../a", "julia/..", "julia//a", "julia/./a", "julia", "other/a", ""),
    *("julia/a\nb", "julia/a\0", "manifest.json", "julia/" + "a" * 1100),
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_outside_of_the_folders_of_a_bundle_is_refused(path):
    for content in (with_file(path=path), with_links((path, "a"))):
        with pytest.raises(ValueError, match="a path must be in one of the folders julia, depot,"):
            Manifest.from_json(content)


LINKS = {
    "absolute": [("julia/l", "/etc/passwd")],
    "outside": [("julia/l", "../../etc/passwd")],
    "the bundle itself": [("julia/l", "..")],
    "to nothing": [("julia/l", "b")],
    "to itself by a folder": [("julia/l", "l/../a")],
    "through a link": [("julia/d", "../julia"), ("julia/l", "d/a")],
    "up through a link": [("julia/d", "../julia"), ("julia/l", "d/../julia/a")],
}


@pytest.mark.parametrize("kind", LINKS)
def test_a_link_out_of_the_bundle_is_refused(kind):
    with pytest.raises(ValueError, match="a link must point to a file or folder of the bundle"):
        Manifest.from_json(with_links(*LINKS[kind]))


REFUSED = {
    "a list": (b"[]", "not a JSON object"),
    "another version": (values(format_version=2)[0], "format_version must be 1"),
    "another field": (values(more=1)[0], "must have info, files and links"),
    "files that are no list": (values(files={})[0], "files must be a list"),
    "a file of other fields": (values(files=[{"path": "julia/a"}])[0], "a file must have path"),
    "a size that is a boolean": (with_file(size=True), "a file must have path, size"),
    "a negative size": (with_file(size=-1), "size or sha256 is invalid"),
    "too many bytes": (with_file(size=1 << 40), "must hold at most 68719476736 bytes"),
    "a digest that is none": (with_file(sha256="F" * 64), "size or sha256 is invalid"),
    "a path twice": (values(files=[values()[1]] * 2)[0], 'twice: "julia/a"'),
    "a file and a link": (with_links(("julia/a", "a")), 'twice: "julia/a"'),
    "a file in a file": (
        values(files=[values()[1], values()[1] | {"path": "julia/a/b"}])[0],
        'must not be a folder too. Received: "julia/a"',
    ),
    "a file in a link": (
        values(links=[{"path": "julia/d", "target": "a"}, {"path": "julia/d/e", "target": "a"}])[0],
        'must not be a folder too. Received: "julia/d"',
    ),
    "no info": (values(info={})[0], "info must have the fields"),
    "an info that is no text": (values(info=dataclasses.asdict(INFO) | {"code": 1})[0], "strings"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_manifest_that_is_not_one_is_refused(kind):
    content, rule = REFUSED[kind]
    with pytest.raises(ValueError, match=rule):
        Manifest.from_json(content)


def test_too_many_files_are_refused(monkeypatch):
    monkeypatch.setattr(manifest, "MAX_FILES", 0)
    with pytest.raises(ValueError, match="files must be at most 0"):
        Manifest.from_json(values()[0])


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(
    bundle, tmp_path, monkeypatch
):
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: Free)
    with pytest.raises(BackendUnavailable, match=r"unpacks to 2 MB, and .* has 1 MB left"):
        unpack(bundle, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


class Free:
    free = 1 << 20


def test_a_folder_or_pipe_is_not_a_bundle(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "nothing"):
        with pytest.raises(ConfigError, match=r"a bundle must be a file\. Received: "):
            unpack(path, tmp_path / f"out{path.name}")
