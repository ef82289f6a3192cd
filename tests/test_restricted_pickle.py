"""The official pickles are read; any other pickle is an error and runs no code."""

import builtins
import collections
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cifar_files import check, python2_pickle, split_dict, write_python_layout

from pymobilenet.data import load_cifar100
from pymobilenet.errors import DataError


@pytest.mark.parametrize("split", ["train", "test"])
def test_pickles_that_python_3_wrote_with_protocol_2(tmp_path, split):
    write_python_layout(tmp_path / "new", lambda value: pickle.dumps(value, protocol=2))
    check(tmp_path / "new", split)


def test_an_array_in_fortran_order_keeps_its_axes(tmp_path):
    def dumps(value):
        arrays = {k: np.asfortranarray(v) for k, v in value.items() if k == "data"}
        return pickle.dumps({**value, **arrays}, protocol=2)

    write_python_layout(tmp_path / "new", dumps)
    check(tmp_path / "new", "train")


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("fine_labels", [0] * 11 + [100], r"\[0, 100\). Received: 100 at index 11"),
        ("coarse_labels", [0] * 11 + [-1], "Received: -1 at index 11"),
        ("fine_labels", [0] * 11 + ["1"], "Received: '1' at index 11"),
        ("fine_labels", [0] * 11, "list of 12 integers"),
        ("filenames", ["a"], "list of 12"),
        ("data", [1, 2], "'data' must be a uint8 array"),
        ("data", np.zeros((12, 3071), np.uint8), r"\(N, 3072\)"),
        ("extra", 1, "exactly the keys"),
    ],
)
def test_a_pickle_with_wrong_content_is_refused(tmp_path, key, value, rule):
    write_python_layout(tmp_path / "data")
    content = b"\x80\x02" + python2_pickle({**split_dict("train"), key: value}) + b"."
    (tmp_path / "data" / "train").write_bytes(content)
    with pytest.raises(DataError, match=f"train: .*{rule}"):
        load_cifar100(tmp_path / "data")


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def rows(dtype):
    return {**split_dict("train"), "data": np.zeros((12, 3072), dtype)}


REDUCED = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
MALICIOUS = {
    "os.system": (pickle.dumps(Calls(os.system, "touch owned"), 2), r"system"),
    "eval": (pickle.dumps(Calls(builtins.eval, "open('owned', 'w')"), 2), r"eval"),
    "subprocess": (
        pickle.dumps(Calls(subprocess.call, "touch owned"), 2),
        r"names the global .*\.call",
    ),
    "unknown class": (pickle.dumps(collections.Counter(), 2), r"collections\.Counter"),
    "another codec": (pickle.dumps(Calls(__import__("_codecs").encode, "a", "rot13"), 2), "latin1"),
    "object array": (pickle.dumps(rows(object), 2), r"must be uint8.*'O8'"),
    "int64 array": (pickle.dumps(rows(np.int64), 2), r"must be uint8.*'i8'"),
    "one axis": (pickle.dumps({"data": np.zeros(3072, np.uint8)}, 2), r"two axes.*\(3072,\)"),
    "ndarray called": (b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.", "calls numpy.ndarray"),
    "huge reconstruct": (REDUCED + b"J\xff\xff\xff\x7f\x85U\x01b\x87R.", "2147483647"),
    "huge bytes": (
        REDUCED + b"K\x00\x85U\x01b\x87R(K\x01K\x01K\x01\x86cnumpy\ndtype\nU\x02u1\x85R"
        b"\x89J\xff\xff\xff\x7ftb.",
        "given by their bytes",
    ),
    "state of a global": (b"\x80\x02cnumpy\nndarray\n}b.", "state of a global"),
    "huge memo": (b"\x80\x02}r\xff\xff\xff\xff.", r"place 4294967295 in a memo of at most"),
    "keys that take for ever": (
        b"\x80\x02})" + b"".join(b"q\x01h\x01\x86" for _ in range(60)) + b"Ns.",
        "more than 32 tuples",
    ),
    "a text encoded over and over": (
        b"\x80\x02c_codecs\nencode\nq\x01X\x00\x10\0\0"
        + b"x" * 4096
        + b"U\x06latin1\x86q\x02R"
        + b"h\x01h\x02R" * 9
        + b"t.",
        "encodes more bytes than the file has",
    ),
    "protocol 4": (pickle.dumps(rows(np.uint8), 4), "not a pickle as the official ones"),
    "persistent id": (b"\x80\x02U\x01aQ.", "not a pickle as the official ones"),
    "no dict": (pickle.dumps([1, 2], 2), "must hold a dict.*list"),
    "truncated": (pickle.dumps(rows(np.uint8), 2)[:-1000], r"\(\d+ bytes\): truncated"),
    "empty": (b"", r"\(0 bytes\): truncated"),
    "text": (b"<html>404</html>", "not a pickle as the official ones"),
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_pickle_that_holds_anything_else_is_refused_and_does_nothing(tmp_path, name, monkeypatch):
    content, rule = MALICIOUS[name]
    monkeypatch.chdir(tmp_path)
    write_python_layout(tmp_path / "data")
    (tmp_path / "data" / "train").write_bytes(content)
    with pytest.raises(DataError, match=rf"train.*{rule}"):
        load_cifar100(tmp_path / "data")
    assert not Path("owned").exists()


def test_the_malicious_pickles_would_work_on_an_open_reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(MALICIOUS["os.system"][0])
    assert Path("owned").exists()
