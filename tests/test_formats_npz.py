"""npz files: reading of NumPy's files, canonical writing, and checks of sizes."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from npz_files import member, zipped

from pymobilenet.errors import WeightsError
from pymobilenet.formats import npz

DTYPES = ["<f2", "<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "|b1"]
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\\0"), max_size=8)
TENSORS = st.dictionaries(
    NAMES.filter(
        lambda name: (
            not name.startswith("/") and ".." not in name.split("/") and name != npz.METADATA
        )
    ),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=3))
    ),
    max_size=5,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def test_the_whole_file_of_a_small_example(tmp_path):
    npz.write(tmp_path / "a", {"x": np.array([[1, -2]], np.float32)}, {"k": "ü"})
    with zipfile.ZipFile(tmp_path / "a") as archive:
        members = archive.infolist()
        assert [m.filename for m in members] == ["__metadata__.npy", "x.npy"]
        assert {m.date_time for m in members} == {(1980, 1, 1, 0, 0, 0)}
        assert {m.compress_type for m in members} == {zipfile.ZIP_STORED}
        text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }"
        start = b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117).encode() + b"\n"
        assert archive.read("x.npy") == start + b"\x00\x00\x80\x3f\x00\x00\x00\xc0"
        assert archive.read("__metadata__.npy").endswith(b'{"k":"\\u00fc"}')


@settings(deadline=None, database=None, max_examples=80)
@given(tensors=TENSORS, metadata=st.dictionaries(TEXT, TEXT, max_size=4))
def test_any_tensors_and_metadata_come_back(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    npz.write(path, tensors, metadata)
    arrays, read_metadata = npz.read(path)
    assert read_metadata == metadata
    assert set(arrays) == set(tensors)
    for name, tensor in tensors.items():
        assert (arrays[name].dtype, arrays[name].shape) == (tensor.dtype, tensor.shape)
        assert arrays[name].tobytes() == tensor.tobytes()


@settings(deadline=None, database=None, max_examples=40)
@given(tensors=TENSORS)
def test_numpy_reads_what_is_written(tmp_path_factory, tensors):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    npz.write(path, tensors, {})
    with np.load(path, allow_pickle=False) as file:
        assert sorted(file.files) == sorted(tensors)
        assert all(file[name].tobytes() == tensors[name].tobytes() for name in tensors)


def test_the_order_of_tensors_and_metadata_does_not_matter(tmp_path):
    tensors = {name: np.full(2, i, np.float32) for i, name in enumerate("qwerty")}
    metadata = {name: name for name in "asdfgh"}
    npz.write(tmp_path / "a", tensors, metadata)
    npz.write(tmp_path / "b", dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpys_own_files_are_read(tmp_path, save):
    tensors = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.array([1.5, -2], ">f8"),
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 4), np.float32),
    }
    save(tmp_path / "a.npz", **tensors)
    arrays, metadata = npz.read(tmp_path / "a.npz")
    assert metadata == {}
    for name, tensor in tensors.items():
        assert arrays[name].dtype == tensor.dtype.newbyteorder("=")
        assert arrays[name].flags.c_contiguous
        assert arrays[name].flags.writeable
        np.testing.assert_array_equal(arrays[name], tensor)


@pytest.mark.parametrize("view", [np.transpose, np.flip, lambda a: a[:, ::2]])
def test_views_are_written_in_row_major_order(tmp_path, view):
    tensor = view(np.arange(12, dtype=">f4").reshape(3, 4))
    npz.write(tmp_path / "a", {"x": tensor}, {})
    np.testing.assert_array_equal(npz.read(tmp_path / "a")[0]["x"], tensor)


def fresh_moments():
    """Zeros: what a thousandfold growth is honest for."""
    values = bytes(4_000_000)
    return [("m.npy", member(values, shape="(1000000,)"))]


def test_fresh_moments_may_be_compressed_a_thousandfold(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(zipped(fresh_moments(), zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 10_000
    assert npz.read(path)[0]["m"].shape == (1_000_000,)


def whole_file():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(9.0), y=np.array([3], np.int64))
    return buffer.getvalue()


WHOLE = whole_file()


@pytest.mark.parametrize("length", range(0, len(WHOLE), 7))
def test_a_truncated_file_is_refused(tmp_path, length):
    (tmp_path / "a.npz").write_bytes(WHOLE[:length])
    with pytest.raises(WeightsError, match=rf"a.npz \({length} bytes\) is not an npz file"):
        npz.read(tmp_path / "a.npz")


@settings(deadline=None, database=None, max_examples=300)
@given(data=st.data())
def test_changed_bytes_give_a_refusal_or_an_array_and_nothing_else(tmp_path_factory, data):
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.npz"
    path.write_bytes(content)
    try:
        npz.read(path)
    except WeightsError as error:
        assert str(path) in str(error)  # noqa: PT017


def test_no_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="nowhere: no such file"):
        npz.read(tmp_path / "nowhere")


@pytest.mark.parametrize("dtype", ["complex64", "U3", "object", "longdouble"])
def test_a_dtype_that_is_no_plain_number_is_not_written(tmp_path, dtype):
    with pytest.raises(WeightsError, match=r"^x\.y: only bool.* can be written. Received: "):
        npz.write(tmp_path / "file", {"x.y": np.zeros(2, dtype)}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["/x", "a\\b", "../x", "a\0b", "__metadata__"])
def test_a_name_no_member_can_have_is_not_written(tmp_path, name):
    with pytest.raises(WeightsError, match=r"names must be relative|must not be named"):
        npz.write(tmp_path / "file", {name: np.zeros(2)}, {})
    assert not list(tmp_path.iterdir())


def test_metadata_is_what_json_reads(tmp_path):
    npz.write(tmp_path / "a.npz", {}, {"b": "2", "a": "1"})
    with np.load(tmp_path / "a.npz") as file:
        assert (
            file["__metadata__"].tobytes()
            == json.dumps({"a": "1", "b": "2"}, separators=(",", ":")).encode()
        )
