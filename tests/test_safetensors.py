"""The bytes of the exchange file: equal content gives equal bytes, and other readers read it."""

import json
import os
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
import safetensors_reference as by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pymobilenet.errors import WeightsError
from pymobilenet.formats.safetensors_file import encode, read, write

VECTORS = json.loads(by_hand.VECTORS.read_text(encoding="utf-8"))["cases"]
DTYPES = {"F64": "<f8", "I64": "<i8", "F32": "<f4", "U8": "|u1"}


def array(tensor):
    values = np.frombuffer(bytes.fromhex(tensor["hex"]), DTYPES[tensor["dtype"]])
    return values.reshape(tensor["shape"])


def written(path, tensors, metadata=None):
    write(path, tensors, metadata or {})
    return path.read_bytes()


def assert_equal(tensors, expected):
    assert set(tensors) == set(expected)
    for name, tensor in expected.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape), name
        assert tensors[name].tobytes() == tensor.tobytes(), name


def test_the_whole_file_of_a_small_example(tmp_path):
    tensors = {
        "bias": np.array([1, -2], np.float32),
        "step": np.array(3, np.int64),
        "mask": np.array([[7]], np.uint8),
    }
    header = (
        b'{"__metadata__":{"config":"{\\"a\\":1}","who":"\\u00fc"},'
        b'"step":{"dtype":"I64","shape":[],"data_offsets":[0,8]},'
        b'"bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},'
        b'"mask":{"dtype":"U8","shape":[1,1],"data_offsets":[16,17]}}'
    )
    assert len(header) == 225
    length = bytes([232, 0, 0, 0, 0, 0, 0, 0])
    data = b"\x03" + bytes(7) + b"\x00\x00\x80\x3f" + b"\x00\x00\x00\xc0" + b"\x07"
    content = written(tmp_path / "file", tensors, {"who": "ü", "config": '{"a":1}'})
    assert content == length + header + b" " * 7 + data


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_recorded_files(tmp_path, case):
    tensors = {tensor["name"]: array(tensor) for tensor in case["tensors"]}
    assert written(tmp_path / "file", tensors, case["metadata"]).hex() == case["file"]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_recorded_files_are_what_the_definition_gives(case):
    assert by_hand.record(case["name"]) == case


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_recorded_files_are_read_back(tmp_path, case):
    (tmp_path / "file").write_bytes(bytes.fromhex(case["file"]))
    tensors, metadata = read(tmp_path / "file")
    assert_equal(tensors, {tensor["name"]: array(tensor) for tensor in case["tensors"]})
    assert metadata == case["metadata"]


@pytest.mark.parametrize("length", range(8))
def test_the_data_begin_at_a_multiple_of_eight_bytes(length):
    header = encode({"n" * (length + 1): np.zeros(3)}, {"k": "v"})
    assert len(header) % 8 == 0
    assert int.from_bytes(header[:8], "little") == len(header) - 8


def test_every_tensor_lies_at_a_multiple_of_its_item_size(tmp_path):
    names = {"a": "u1", "b": "f4", "c": "f8", "d": "u1", "e": "i8", "f": "f4"}
    content = written(tmp_path / "file", {n: np.ones(3, d) for n, d in names.items()})
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header) == ["c", "e", "b", "f", "a", "d"]
    for name, entry in header.items():
        assert entry["data_offsets"][0] % np.dtype(names[name]).itemsize == 0


def test_the_order_of_tensors_and_metadata_does_not_matter(tmp_path):
    tensors = {name: np.full(2, i, np.float32) for i, name in enumerate("qwerty")}
    metadata = {name: name for name in "asdfgh"}
    turned = dict(reversed(tensors.items())), dict(reversed(metadata.items()))
    assert written(tmp_path / "1", tensors, metadata) == written(tmp_path / "2", *turned)


def test_two_processes_write_the_same_bytes(tmp_path):
    program = (
        "import sys, numpy as np\n"
        "from pymobilenet.formats.safetensors_file import write\n"
        "names = {f'name{i}' for i in range(40)}\n"  # a set's order follows the hash seed
        "write(sys.argv[1], {n: np.ones(2) for n in names}, {n: n for n in names})\n"
        "print(list(names))\n"
    )
    orders, contents = set(), set()
    for seed in "12":
        path = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", program, str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        orders.add(done.stdout)
        contents.add(path.read_bytes())
    assert len(orders) == 2
    assert len(contents) == 1


@pytest.mark.parametrize("view", [np.transpose, np.flip, lambda a: a[:, ::2]])
def test_views_are_written_in_row_major_order(tmp_path, view):
    tensor = view(np.arange(12, dtype=np.float32).reshape(3, 4))
    assert written(tmp_path / "a", {"x": tensor}) == written(tmp_path / "b", {"x": tensor.copy()})


def test_values_of_another_byte_order_are_written_little_endian(tmp_path):
    values = np.array([1.5, -2], ">f8")
    write(tmp_path / "file", {"x": values}, {})
    assert read(tmp_path / "file")[0]["x"].tolist() == [1.5, -2]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TENSORS = st.dictionaries(
    TEXT.filter(lambda name: name != "__metadata__"),
    st.sampled_from(list(DTYPES.values())).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=3))
    ),
    max_size=5,
)


@settings(deadline=None, database=None, max_examples=60)
@given(tensors=TENSORS, metadata=st.dictionaries(TEXT, TEXT, max_size=4))
def test_any_tensors_and_metadata_come_back(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    content = written(path, tensors, metadata)
    read_tensors, read_metadata = read(path)
    assert_equal(read_tensors, tensors)
    assert read_metadata == metadata
    assert_equal(safetensors.numpy.load(content), tensors)


@settings(deadline=None, database=None, max_examples=30)
@given(tensors=TENSORS)
def test_a_mapped_file_gives_the_same_and_cannot_be_written_to(tmp_path_factory, tensors):
    path = tmp_path_factory.mktemp("mapped") / "a"
    write(path, tensors, {})
    read_tensors, _ = read(path, mmap=True)
    assert_equal(read_tensors, tensors)
    assert not any(tensor.flags.writeable for tensor in read_tensors.values() if tensor.size)
    path.unlink()
    assert_equal(read_tensors, tensors)


def test_a_mapped_file_costs_no_memory_until_it_is_used(tmp_path):
    write(tmp_path / "a", {"a": np.zeros(2**22, np.float32)}, {})
    tracemalloc.start()
    mapped, _ = read(tmp_path / "a", mmap=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert mapped["a"].nbytes == 2**24
    assert peak < 2**18


def test_a_tensor_at_an_odd_address_is_copied(tmp_path):
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    values = np.array([1.5, -2], "<f4")
    raw = struct.pack("<Q", len(header) + 1) + header + b" " + values.tobytes()
    (tmp_path / "a").write_bytes(raw)
    assert (len(header) + 9) % 4
    read_tensors, _ = read(tmp_path / "a", mmap=True)
    assert read_tensors["a"].flags.aligned
    assert_equal(read_tensors, {"a": values})


@pytest.mark.parametrize("dtype", ["float16", "int32", "bool", "complex64", "U3", "object"])
def test_a_dtype_that_is_not_exchanged_is_refused_by_name(tmp_path, dtype):
    with pytest.raises(WeightsError, match=rf"^x\.y: only float64, float32, int64, uint8.*{dtype}"):
        write(tmp_path / "file", {"x.y": np.zeros(2, dtype)}, {})
    assert not list(tmp_path.iterdir())


def test_a_tensor_cannot_take_the_name_of_the_metadata(tmp_path):
    with pytest.raises(WeightsError, match="__metadata__"):
        write(tmp_path / "file", {"__metadata__": np.zeros(1)}, {"a": "b"})
