"""torch's files: state dicts are read, nothing is run, and no claim is believed."""

import functools
import io
import os
import pickle
import re
import struct
import subprocess
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pymobilenet.backends.torch.checkpoint import (
    WRAPPERS,
    read_checkpoint,
    write_checkpoint,
)
from pymobilenet.errors import WeightsError
from pymobilenet.weights.torch_outline import MOST_PICKLE_BYTES, Claim, outline

ZIP, LEGACY = True, False
both_formats = pytest.mark.parametrize("new", [ZIP, LEGACY], ids=["zip", "legacy"])


def saved(content, path, new=ZIP):
    torch.save(content, path, _use_new_zipfile_serialization=new)
    return path


def repacked(path, change, method=zipfile.ZIP_STORED):
    """The zip at `path` with its records (name -> bytes) as `change` leaves them."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def with_pickle(path, pickled):
    """A file of torch's that holds `pickled` in place of its own pickle, and one storage."""
    saved({"a": torch.arange(4.0)}, path)

    def change(records):
        (name,) = [name for name in records if name.endswith("data.pkl")]
        records[name] = pickled

    return repacked(path, change)


def refusal(path):
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
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
    found, metadata = read_checkpoint(saved(TENSORS, tmp_path / "a.pt", new))
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
    assert list(read_checkpoint(saved(content, tmp_path / "a.pt", new))[0]) == list(TENSORS)


@both_formats
def test_a_prefix_of_all_names_is_taken_off(tmp_path, new):
    parallel = {f"module.{name}": tensor for name, tensor in TENSORS.items()}
    assert list(read_checkpoint(saved(parallel, tmp_path / "a.pt", new))[0]) == list(TENSORS)


def test_a_prefix_of_some_names_stays(tmp_path):
    content = {"module.a": torch.zeros(1), "n_averaged": torch.tensor(3)}
    assert list(read_checkpoint(saved(content, tmp_path / "a"))[0]) == ["module.a", "n_averaged"]


@both_formats
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32_exactly(tmp_path, dtype, new):
    values = torch.tensor([0, -0.0, 1.5, 2**-20, 6e4, -1 / 3]).to(dtype)
    found = read_checkpoint(saved({"a": values}, tmp_path / "a.pt", new))[0]["a"]
    assert found.dtype == np.float32
    assert found.tobytes() == values.float().numpy().tobytes()


@both_formats
@pytest.mark.parametrize(
    "view", [lambda a: a.T, lambda a: a[:, ::2], lambda a: a[1:], lambda a: a.flip(0)]
)
def test_strides_and_offsets_are_followed(tmp_path, view, new):
    tensor = view(torch.arange(12.0).reshape(3, 4))
    found = read_checkpoint(saved({"a": tensor}, tmp_path / "a.pt", new))[0]["a"]
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, tensor.numpy())


def test_a_suffix_of_another_format_changes_nothing(tmp_path):
    path = saved({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert read_checkpoint(path)[0]["a"].tolist() == [1, 1]


def test_parameters_are_tensors(tmp_path):
    content = dict(torch.nn.Linear(2, 3).named_parameters())
    assert set(read_checkpoint(saved(content, tmp_path / "a"))[0]) == {"weight", "bias"}


# What is written


def test_metadata_travels_beside_a_plain_state_dict(tmp_path):
    module = torch.nn.Linear(2, 3)
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    write_checkpoint(tmp_path / "a", tensors, {"b": "ü", "a": "1"})
    assert read_checkpoint(tmp_path / "a")[1] == {"a": "1", "b": "ü"}
    loaded = torch.load(tmp_path / "a", weights_only=True)
    assert list(loaded) == ["weight", "bias"]
    torch.nn.Linear(2, 3).load_state_dict(loaded, strict=True)


def test_equal_content_is_equal_bytes(tmp_path):
    tensors = {"a": np.arange(3.0), "b": np.zeros((2, 2), np.float32)}
    write_checkpoint(tmp_path / "a", tensors, {"x": "1", "y": "2"})
    write_checkpoint(tmp_path / "b", tensors, {"y": "2", "x": "1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("tensor", [np.arange(6.0).reshape(2, 3).T, np.array([1.5], ">f4")])
def test_any_order_of_axes_and_bytes_is_written(tmp_path, tensor):
    tensor.flags.writeable = False
    write_checkpoint(tmp_path / "a", {"x": tensor}, {})
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "a")[0]["x"], tensor)


def test_a_dtype_torch_has_not_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        write_checkpoint(tmp_path / "a", {"x": np.array(["text"])}, {})
    assert not list(tmp_path.iterdir())


# Nothing is run


class Reduced:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Stateful:
    """Pickled as an object with a state."""

    def __setstate__(self, state):
        raise AssertionError("run")


def programs(sentinel):
    """Pickles that would make the file `sentinel` if anything of them were run."""
    code = f"open({str(sentinel)!r}, 'w')"
    stateful = Stateful()
    stateful.x = 1
    return {
        "os.system": Reduced(os.system, f"touch {sentinel}"),
        "eval": Reduced(eval, code),
        "exec": Reduced(exec, code),
        "subprocess": Reduced(subprocess.Popen, ["touch", str(sentinel)]),
        "open": Reduced(open, str(sentinel), "w"),
        "torch.load": Reduced(torch.load, str(sentinel)),
        "hub": Reduced(torch.hub.load, "a/b", "c"),
        "setstate": stateful,
        "module": torch.nn.Linear(2, 3),
        "partial": Reduced(functools.partial, eval, code),
    }


@both_formats
@pytest.mark.parametrize("kind", programs("x"))
@pytest.mark.parametrize("place", ["value", "whole", "key", "beside"])
def test_a_program_is_refused_by_name_and_not_run(tmp_path, kind, place, new):
    sentinel = tmp_path / "sentinel"
    program = programs(sentinel)[kind]
    content = {
        "value": {"a": program},
        "whole": program,
        "key": {"a": torch.zeros(1), "b": [program]},
        "beside": {"state_dict": {"a": torch.zeros(1)}, "args": program},
    }[place]
    message = refusal(saved(content, tmp_path / "a.pt", new))
    assert "names '" in message
    assert "nothing was run" in message
    assert "torch.save(model.state_dict(), path)" in message
    assert not sentinel.exists()


OPCODE = {
    "instances": b"(i__builtin__\neval\n.",
    "object": b"\x80\x02c__builtin__\neval\n(tR.",
    "stack": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent text": b"Pstorage\n.",
    "a frame of a gigabyte": b"\x80\x04\x95" + struct.pack("<Q", 2**30) + b".",
    "a string of a gigabyte": b"\x80\x02X" + struct.pack("<I", 2**30) + b"x.",
    "a memo of gigabytes": b"\x80\x02Nr\xff\xff\xff\xff.",
    "nothing on the stack": b"\x80\x02R.",
    "no end": b"\x80\x02}",
    "empty": b"",
    "a key that is a tuple": b"\x80\x02})\x85NsN.",
    "a call of a dict": b"\x80\x02})R.",
    "a storage called": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "the state of a global": b"\x80\x02ccollections\nOrderedDict\n}b.",
    "the state of a list": b"\x80\x02]}b.",
    "a dict that hides its methods": b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\0\0\0itemsNsb.",
    "a dict of pairs": b"\x80\x02ccollections\nOrderedDict\n]N\x85a\x85R.",
}


@pytest.mark.parametrize("kind", OPCODE)
def test_a_pickle_written_by_hand_is_refused(tmp_path, kind):
    message = refusal(with_pickle(tmp_path / "a.pt", OPCODE[kind]))
    assert len(message) < 600


def test_keys_that_would_take_for_ever_to_hash_are_refused(tmp_path):
    """Sixty tuples, each of the one before twice."""
    nested = b"\x80\x02}" + b")" + b"".join(b"q\x01h\x01\x86" for _ in range(60)) + b"Ns."
    assert "keys must be text or whole" in refusal(with_pickle(tmp_path / "a.pt", nested))


# No claim is believed


def tensor_pickle(offset=0, shape=(4,), strides=(1,), count=4, key="0", kind="FloatStorage"):
    """The pickle of {"a": tensor}, with any claim."""

    class Pickler(pickle._Pickler):
        def persistent_id(self, thing):
            return thing.pid if isinstance(thing, Storage) else None

    class Storage:
        pid = ("storage", getattr(torch, kind), key, "cpu", count)

    rebuild = torch._utils._rebuild_tensor_v2
    arguments = (Storage(), offset, shape, strides, False, OrderedDict())
    file = io.BytesIO()
    Pickler(file, protocol=2).dump({"a": Reduced(rebuild, *arguments)})
    return file.getvalue()


def test_the_pickle_of_these_tests_is_read_where_its_claims_hold(tmp_path):
    path = with_pickle(tmp_path / "a.pt", tensor_pickle())
    assert read_checkpoint(path)[0]["a"].tolist() == [0, 1, 2, 3]


CLAIMS = {
    "a larger shape": ({"shape": (5,)}, "exceeds its storage '0' of 4 values"),
    "terabytes": ({"shape": (2**40,)}, "exceeds its storage"),
    "huge strides": ({"shape": (2, 2), "strides": (2**60, 1)}, "exceeds its storage"),
    "one value expanded": ({"shape": (2**40,), "strides": (0,)}, "exceeds its storage"),
    "an offset": ({"offset": 1}, "exceeds its storage"),
    "an offset below zero": ({"offset": -1}, "must be whole numbers"),
    "a size below zero": ({"shape": (-4,)}, "must be whole numbers"),
    "a stride below zero": ({"strides": (-1,)}, "must be whole numbers"),
    "a size beyond 64 bits": ({"shape": (2**70, 0), "strides": (1, 1)}, "must be whole numbers"),
    "too few strides": ({"strides": ()}, "one stride for each axis"),
    "a size that is no number": ({"shape": ("4",)}, "must be whole numbers"),
    "a larger storage": ({"count": 2**40}, "storage '0' claims 4398046511104 bytes"),
    "a smaller storage": ({"count": 3, "shape": (3,)}, "claims 12 bytes; the file holds 16"),
    "a storage of wider values": ({"kind": "DoubleStorage"}, "claims 32 bytes; .* holds 16"),
    "a storage of none": ({"count": -4}, "needs a key and a size"),
    "a storage that is not there": ({"key": "9"}, "'9' claims 16 bytes; the file holds 0"),
    "a storage elsewhere": ({"key": "../version"}, "claims 16 bytes; the file holds"),
    "complex values": ({"kind": "ComplexFloatStorage"}, "complex; they must be dense floats"),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path, case):
    claims, message = CLAIMS[case]
    found = refusal(with_pickle(tmp_path / "a.pt", tensor_pickle(**claims)))
    assert re.search(message, found), found


@both_formats
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.zeros(3, dtype=torch.complex64), "complex"),
        (lambda: torch.zeros(3).to_sparse(), "sparse"),
        (lambda: torch.zeros(3, device="meta"), "meta"),
        (lambda: torch.zeros(3).to(torch.float8_e4m3fn), "without arithmetic"),
        (lambda: torch.zeros(1).expand(10**12), "exceeds its storage"),
    ],
)
def test_tensors_that_are_not_dense_floats_are_refused(tmp_path, make, message, new):
    assert message in refusal(saved({"a": make()}, tmp_path / "a.pt", new))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_quantised_tensors_are_refused(tmp_path):
    tensor = torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)
    assert "quantised" in refusal(saved({"a": tensor}, tmp_path / "a.pt"))


@both_formats
def test_many_tensors_of_one_storage_are_not_copied(tmp_path, new):
    """A thousand views of a megabyte would be a gigabyte."""
    values = torch.zeros(2**18)
    path = saved({f"t{i}": values[:] for i in range(1000)}, tmp_path / "a.pt", new)
    assert "its tensors share values: 1048576000 bytes of them" in refusal(path)


@both_formats
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "must hold a state dict, or a dict with one. Received: list"),
        (torch.zeros(1), "Received: Claim"),
        ({}, "the state dict is empty"),
        ({"state_dict": {}}, "the state dict is empty"),
        ({"a": 3}, "'a' is int"),
        ({"a": torch.zeros(1), 3: torch.zeros(1)}, "tensors by name; 3 is"),
        ({"a": {"b": torch.zeros(1)}}, "'a' is dict"),
        ({"model": {"a": 1}, "net": {}}, "more than one state dict: model, net"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, message, new):
    assert message in refusal(saved(content, tmp_path / "a.pt", new))


def test_a_weight_average_beside_the_weights_is_for_the_user_to_choose(tmp_path):
    path = saved({"model_ema": dict(TENSORS), "model": dict(TENSORS)}, tmp_path / "a")
    assert "holds more than one state dict: model, model_ema. Save one alone" in refusal(path)


def test_a_torchscript_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/a.py"):
            archive.writestr(f"a/{name}", b"\x80\x02N.")
    assert "a TorchScript archive, which is a program" in refusal(tmp_path / "a.pt")


def duplicated(path):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"\x80\x02}.")


def test_a_record_twice_is_refused(tmp_path):
    path = saved(TENSORS, tmp_path / "a.pt")
    duplicated(path)
    assert "is in it twice" in refusal(path)


def test_compressed_records_are_refused(tmp_path):
    path = saved({"a": torch.zeros(10**6)}, tmp_path / "a.pt")
    repacked(path, lambda _: None, zipfile.ZIP_DEFLATED)
    assert "must be stored, as torch does" in refusal(path)


def test_two_pickles_are_refused(tmp_path):
    path = saved(TENSORS, tmp_path / "a.pt")
    repacked(path, lambda records: records.update({"b/data.pkl": b"\x80\x02}."}))
    assert "must hold one data.pkl" in refusal(path)


def test_a_huge_pickle_is_refused(tmp_path):
    found = refusal(with_pickle(tmp_path / "a.pt", b"\x80\x02" + b"N0" * MOST_PICKLE_BYTES + b"}."))
    assert f"{MOST_PICKLE_BYTES} at most" in found


def test_metadata_that_is_no_text_is_refused(tmp_path):
    weights = OrderedDict(a=torch.zeros(1))
    weights._metadata = {"pymobilenet": {"a": 1}}
    assert "its metadata must be text by name" in refusal(saved(weights, tmp_path / "a"))


def test_a_legacy_file_with_another_storage_size_is_refused(tmp_path):
    path = saved({"a": torch.arange(4.0)}, tmp_path / "a.pt", LEGACY)
    content = path.read_bytes()
    size = struct.pack("<q", 4)
    assert content[-24:-16] == size
    path.write_bytes(content[:-24] + struct.pack("<q", 2**40) + content[-16:])
    assert "claims 4 values, and holds others" in refusal(path)


def test_a_pickle_that_torch_did_not_write_is_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    assert "a pickle that torch.save did not write" in refusal(tmp_path / "a.pt")


def test_what_torch_itself_refuses_is_refused(tmp_path):
    path = saved(TENSORS, tmp_path / "a.pt")
    repacked(path, lambda records: records.update({"archive/byteorder": b"middle"}))
    assert "torch cannot read it" in refusal(path)


def test_tensors_that_torch_reads_otherwise_than_they_are_described_are_refused(
    tmp_path, monkeypatch
):
    path = saved(TENSORS, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "load", lambda *_, **__: {**TENSORS, "a": torch.zeros(9)})
    assert "torch reads other tensors in it than it describes" in refusal(path)


def test_no_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "nowhere")


def whole(new):
    file = io.BytesIO()
    torch.save(
        {"a": torch.arange(3.0), "b": torch.tensor(1)}, file, _use_new_zipfile_serialization=new
    )
    return file.getvalue()


WHOLE = {new: whole(new) for new in (ZIP, LEGACY)}


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
        read_checkpoint(path)
    except WeightsError as error:
        assert str(path) in str(error)  # noqa: PT017


@both_formats
def test_an_outline_needs_no_torch_and_holds_no_values(new):
    assert outline(WHOLE[new]) == {"a": Claim("float32", (3,)), "b": Claim("int64", ())}
