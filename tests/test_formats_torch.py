"""Files of torch: state dicts are read, no code is run, and sizes are checked."""

import argparse
import collections
import datetime
import decimal
import pathlib
import types
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
import torch_files
from hypothesis import given, settings
from hypothesis import strategies as st

from pymobilenet.errors import WeightsError
from pymobilenet.formats.source import read_source
from pymobilenet.formats.torch_file import load_object, write

ZIP, LEGACY = True, False
both_formats = pytest.mark.parametrize("new", [ZIP, LEGACY], ids=["zip", "legacy"])


def saved(content, path, new=ZIP):
    path.write_bytes(torch_files.saved(content, new))
    return path


def read(path):
    source = read_source(path, "pt", None)
    return source.tensors, source.metadata


def error_message(path):
    with pytest.raises(WeightsError) as raised:
        read(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


TENSORS = OrderedDict(
    a=torch.arange(6.0).reshape(2, 3),
    b=torch.arange(3, dtype=torch.float64),
    count=torch.tensor(7),
    none=torch.zeros(0, 4),
    flag=torch.tensor([True, False]),
)


# Reading


@both_formats
def test_the_tensors_of_a_state_dict_are_read(tmp_path, new):
    tensors, metadata = read(saved(TENSORS, tmp_path / "a.pt", new))
    assert metadata == {}
    assert list(tensors) == list(TENSORS)
    for name, tensor in TENSORS.items():
        expected = tensor.numpy()
        assert (tensors[name].dtype, tensors[name].shape) == (expected.dtype, expected.shape)
        assert tensors[name].tobytes() == expected.tobytes()
        assert tensors[name].flags.writeable


@both_formats
@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "model_ema"])
def test_the_state_dict_in_a_trainers_checkpoint_is_read(tmp_path, key, new):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    content = {key: TENSORS, "optimizer": optimizer.state_dict(), "epoch": 3, "acc": 0.7}
    assert list(read(saved(content, tmp_path / "a.pt", new))[0]) == list(TENSORS)


@both_formats
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32_exactly(tmp_path, dtype, new):
    values = torch.tensor([0, -0.0, 1.5, 2**-20, 6e4, -1 / 3]).to(dtype)
    array = read(saved({"a": values}, tmp_path / "a.pt", new))[0]["a"]
    assert array.dtype == np.float32
    assert array.tobytes() == values.float().numpy().tobytes()


@both_formats
@pytest.mark.parametrize(
    "view", [lambda a: a.T, lambda a: a[:, ::2], lambda a: a[1:], lambda a: a.flip(0)]
)
def test_strides_and_offsets_are_used(tmp_path, view, new):
    tensor = view(torch.arange(12.0).reshape(3, 4))
    array = read(saved({"a": tensor}, tmp_path / "a.pt", new))[0]["a"]
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, tensor.numpy())


def test_a_suffix_of_another_format_changes_nothing(tmp_path):
    path = saved({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert read(path)[0]["a"].tolist() == [1, 1]


def test_parameters_are_tensors(tmp_path):
    content = dict(torch.nn.Linear(2, 3).named_parameters())
    assert set(read(saved(content, tmp_path / "a"))[0]) == {"weight", "bias"}


@both_formats
def test_other_content_of_a_trainers_checkpoint_is_read_without_running_code(tmp_path, new):
    content = {
        "model": TENSORS,
        "args": argparse.Namespace(lr=0.1, output=pathlib.PosixPath("/a/b")),
        "best": [np.float64(-0.1), np.float32(1.5), np.int64(3), np.bool_(True)],
        "big": np.dtype(">f8").type(2.5),
        "seen": {1, 2},
        "counts": Counter("abca"),
        "dtype": torch.float16,
        "shape": torch.Size([1, 2]),
    }
    loaded = load_object(saved(content, tmp_path / "a.pt", new))
    assert loaded["args"] == argparse.Namespace(lr=0.1, output=pathlib.PurePosixPath("/a/b"))
    assert loaded["best"] == [-0.1, 1.5, 3, True]
    assert [type(value) for value in loaded["best"]] == [float, float, int, bool]
    for name in ("big", "seen", "counts", "dtype", "shape"):
        assert loaded[name] == content[name]


OTHER_VALUES = {
    "a defaultdict": (collections.defaultdict(list, a=[1]), {"a": [1]}),
    "a deque": (collections.deque([1, 2], maxlen=3), [1, 2]),
    "an array": (np.arange(3.0), None),
    "an array of texts": (np.array(["cat", "dog"]), None),
    "a NumPy text": (np.str_("cat"), None),
    "a legacy generator's state": (np.random.RandomState(0).get_state(), None),
    "a generator": (np.random.default_rng(0), None),
    "a date": (datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), None),
    "a duration": (datetime.timedelta(seconds=3), None),
    "a decimal number": (decimal.Decimal("0.1"), None),
    "a namespace": (types.SimpleNamespace(lr=0.1), None),
    "a range": (range(3), None),
    "a frozen set": (frozenset({1}), None),
    "a dtype of eight bits": (torch.float8_e4m3fn, torch.float8_e4m3fn),
    "a layout": (torch.strided, torch.strided),
    "a path of Windows": (pathlib.PureWindowsPath("a"), pathlib.PureWindowsPath("a")),
}


@both_formats
@pytest.mark.parametrize("kind", OTHER_VALUES)
def test_harmless_values_beside_the_weights_are_read(tmp_path, new, kind):
    value, expected = OTHER_VALUES[kind]
    path = saved({"model": TENSORS, "extra": value}, tmp_path / "a.pt", new)
    content = load_object(path)
    assert set(content["model"]) == set(TENSORS)
    if expected is not None:
        assert type(content["extra"]) is type(expected)
        assert content["extra"] == expected


def test_the_users_list_of_safe_globals_is_not_changed(tmp_path):
    with torch.serialization.safe_globals([argparse.Namespace]):
        load_object(saved(TENSORS, tmp_path / "a.pt"))
        assert argparse.Namespace in torch.serialization.get_safe_globals()
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_the_tensors_of_a_zip_are_views_of_the_mapped_file(tmp_path):
    path = saved(TENSORS, tmp_path / "a.pt")
    tensor = load_object(path)["a"]
    assert not tensor.untyped_storage().resizable()
    mapped = pathlib.Path("/proc/self/maps").read_text()
    assert str(path) in mapped


# Writing


def test_metadata_is_written_with_a_plain_state_dict(tmp_path):
    module = torch.nn.Linear(2, 3)
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    write(tmp_path / "a", tensors, {"b": "ü", "a": "1"})
    assert read(tmp_path / "a")[1] == {"a": "1", "b": "ü"}
    loaded = torch.load(tmp_path / "a", weights_only=True)
    assert list(loaded) == ["weight", "bias"]
    torch.nn.Linear(2, 3).load_state_dict(loaded, strict=True)


def test_equal_content_is_equal_bytes(tmp_path):
    tensors = {"a": np.arange(3.0), "b": np.zeros((2, 2), np.float32)}
    write(tmp_path / "a", tensors, {"x": "1", "y": "2"})
    write(tmp_path / "b", tensors, {"y": "2", "x": "1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("tensor", [np.arange(6.0).reshape(2, 3).T, np.array([1.5], ">f4")])
def test_any_order_of_axes_and_bytes_is_written(tmp_path, tensor):
    tensor.flags.writeable = False
    write(tmp_path / "a", {"x": tensor}, {})
    np.testing.assert_array_equal(read(tmp_path / "a")[0]["x"], tensor)


def test_a_dtype_that_torch_lacks_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        write(tmp_path / "a", {"x": np.array(["text"])}, {})
    assert not list(tmp_path.iterdir())


# Files that are not supported (see also tests/attacks)


def test_the_pickle_of_the_attacks_is_read_if_its_sizes_are_true(tmp_path):
    (tmp_path / "a.pt").write_bytes(torch_files.with_pickle(torch_files.tensor_pickle()))
    assert read(tmp_path / "a.pt")[0]["x"].tolist() == [0, 1, 2, 3]


def test_a_missing_file_is_an_error(tmp_path):
    assert "no such file" in error_message(tmp_path / "nowhere")


SMALL = {"a": torch.arange(3.0), "b": torch.tensor(1)}
COMPLETE = {new: torch_files.saved(SMALL, new) for new in (ZIP, LEGACY)}


@both_formats
def test_a_truncated_file_is_an_error(tmp_path, new):
    for length in range(0, len(COMPLETE[new]), 11):
        (tmp_path / "a.pt").write_bytes(COMPLETE[new][:length])
        error_message(tmp_path / "a.pt")


@both_formats
@settings(deadline=None, database=None, max_examples=300)
@given(data=st.data())
def test_a_file_with_changed_bytes_gives_tensors_or_a_weights_error(tmp_path_factory, new, data):
    content = bytearray(COMPLETE[new])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.pt"
    path.write_bytes(content)
    try:
        read(path)
    except WeightsError as error:
        assert str(path) in str(error)  # noqa: PT017
