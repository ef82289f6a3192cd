"""torch's files: state dicts are read, nothing is run, and no claim is believed."""

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
import torch_files as by_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from pymobilenet.errors import WeightsError
from pymobilenet.formats.torch_file import WRAPPERS, load_object, read, write

ZIP, LEGACY = True, False
both_formats = pytest.mark.parametrize("new", [ZIP, LEGACY], ids=["zip", "legacy"])


def saved(content, path, new=ZIP):
    path.write_bytes(by_hand.saved(content, new))
    return path


def refusal(path):
    with pytest.raises(WeightsError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


TENSORS = OrderedDict(
    a=torch.arange(6.0).reshape(2, 3),
    b=torch.arange(3, dtype=torch.float64),
    count=torch.tensor(7),
    none=torch.zeros(0, 4),
    flag=torch.tensor([True, False]),
)


# What is read


@both_formats
def test_a_state_dict_comes_back(tmp_path, new):
    found, metadata = read(saved(TENSORS, tmp_path / "a.pt", new))
    assert metadata == {}
    assert list(found) == list(TENSORS)
    for name, tensor in TENSORS.items():
        expected = tensor.numpy()
        assert (found[name].dtype, found[name].shape) == (expected.dtype, expected.shape)
        assert found[name].tobytes() == expected.tobytes()
        assert found[name].flags.writeable


@both_formats
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_state_dict_is_found_beside_other_things(tmp_path, wrapper, new):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    content = {wrapper: TENSORS, "optimizer": optimizer.state_dict(), "epoch": 3, "acc": 0.7}
    assert list(read(saved(content, tmp_path / "a.pt", new))[0]) == list(TENSORS)


@both_formats
def test_a_prefix_of_all_names_is_taken_off(tmp_path, new):
    parallel = {f"module.{name}": tensor for name, tensor in TENSORS.items()}
    assert list(read(saved(parallel, tmp_path / "a.pt", new))[0]) == list(TENSORS)


def test_a_prefix_of_some_names_stays(tmp_path):
    content = {"module.a": torch.zeros(1), "n_averaged": torch.tensor(3)}
    assert list(read(saved(content, tmp_path / "a"))[0]) == ["module.a", "n_averaged"]


@both_formats
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32_exactly(tmp_path, dtype, new):
    values = torch.tensor([0, -0.0, 1.5, 2**-20, 6e4, -1 / 3]).to(dtype)
    found = read(saved({"a": values}, tmp_path / "a.pt", new))[0]["a"]
    assert found.dtype == np.float32
    assert found.tobytes() == values.float().numpy().tobytes()


@both_formats
@pytest.mark.parametrize(
    "view", [lambda a: a.T, lambda a: a[:, ::2], lambda a: a[1:], lambda a: a.flip(0)]
)
def test_strides_and_offsets_are_followed(tmp_path, view, new):
    tensor = view(torch.arange(12.0).reshape(3, 4))
    found = read(saved({"a": tensor}, tmp_path / "a.pt", new))[0]["a"]
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, tensor.numpy())


def test_a_suffix_of_another_format_changes_nothing(tmp_path):
    path = saved({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert read(path)[0]["a"].tolist() == [1, 1]


def test_parameters_are_tensors(tmp_path):
    content = dict(torch.nn.Linear(2, 3).named_parameters())
    assert set(read(saved(content, tmp_path / "a"))[0]) == {"weight", "bias"}


@both_formats
def test_what_trainers_save_beside_weights_is_read_without_code_of_theirs(tmp_path, new):
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
    found = load_object(saved(content, tmp_path / "a.pt", new))
    assert found["args"] == argparse.Namespace(lr=0.1, output=pathlib.PurePosixPath("/a/b"))
    assert found["best"] == [-0.1, 1.5, 3, True]
    assert [type(value) for value in found["best"]] == [float, float, int, bool]
    for name in ("big", "seen", "counts", "dtype", "shape"):
        assert found[name] == content[name]


BESIDE_WEIGHTS = {
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
@pytest.mark.parametrize("kind", BESIDE_WEIGHTS)
def test_a_harmless_value_beside_the_weights_is_no_reason_to_refuse(tmp_path, new, kind):
    value, expected = BESIDE_WEIGHTS[kind]
    path = saved({"model": TENSORS, "extra": value}, tmp_path / "a.pt", new)
    content = load_object(path)
    assert set(content["model"]) == set(TENSORS)
    if expected is not None:
        assert type(content["extra"]) is type(expected)
        assert content["extra"] == expected


def test_what_the_user_allows_torch_to_read_stays_allowed(tmp_path):
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


# What is written


def test_metadata_travels_beside_a_plain_state_dict(tmp_path):
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


def test_a_dtype_torch_has_not_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        write(tmp_path / "a", {"x": np.array(["text"])}, {})
    assert not list(tmp_path.iterdir())


# What is refused (see also tests/attacks)


def test_the_pickle_of_these_tests_is_read_where_its_claims_hold(tmp_path):
    (tmp_path / "a.pt").write_bytes(by_hand.with_pickle(by_hand.tensor_pickle()))
    assert read(tmp_path / "a.pt")[0]["x"].tolist() == [0, 1, 2, 3]


def test_no_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "nowhere")


SMALL = {"a": torch.arange(3.0), "b": torch.tensor(1)}
WHOLE = {new: by_hand.saved(SMALL, new) for new in (ZIP, LEGACY)}


@both_formats
def test_a_truncated_file_is_refused(tmp_path, new):
    for length in range(0, len(WHOLE[new]), 11):
        (tmp_path / "a.pt").write_bytes(WHOLE[new][:length])
        refusal(tmp_path / "a.pt")


@both_formats
@settings(deadline=None, database=None, max_examples=300)
@given(data=st.data())
def test_changed_bytes_give_a_refusal_or_tensors_and_nothing_else(tmp_path_factory, new, data):
    content = bytearray(WHOLE[new])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.pt"
    path.write_bytes(content)
    try:
        read(path)
    except WeightsError as error:
        assert str(path) in str(error)  # noqa: PT017
