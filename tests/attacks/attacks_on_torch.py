"""Files of torch that would run code, or claim false sizes."""

import io
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import torch
from attack import attacks
from torch_files import programs, repacked, saved, tensor_pickle, with_pickle

from pymobilenet.formats.torch_pickle import MOST_PICKLE_BYTES

ONE = {"x": torch.zeros(1)}
FOUR = {"x": torch.arange(4.0)}


def both(name, content, message):
    """An attack in each of torch's two formats."""
    return {
        f"{name}, {kind}": (saved(content, kind == "zip"), message) for kind in ("zip", "legacy")
    }


def records(change):
    return repacked(saved(FOUR), change)


def added(name, content=b"\x80\x02}."):
    return records(lambda records: records.update({name: content}))


def with_metadata(metadata):
    weights = OrderedDict(ONE)
    weights._metadata = {"pymobilenet": metadata}
    return saved(weights)


def twice():
    """A zip whose first record comes once more."""
    file = io.BytesIO(saved(FOUR))
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(archive.namelist()[0], b"\x80\x02}.")
    return file.getvalue()


def torchscript():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/x.py"):
            archive.writestr(f"x/{name}", b"\x80\x02N.")
    return file.getvalue()


def with_false_size():
    """A legacy file whose one storage says it has 2^40 values."""
    content = saved(FOUR, new=False)
    assert content[-24:-16] == struct.pack("<q", 4)
    return content[:-24] + struct.pack("<q", 2**40) + content[-16:]


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"x": torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)}


def nested():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"x": torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)])}


PROGRAMS = {}
for name, program in programs("MARKER").items():
    for position, content in {
        "as a tensor": {"x": program},
        "in place of the file": program,
        "beside the weights": {"state_dict": ONE, "args": [program]},
    }.items():
        PROGRAMS |= both(f"{name} {position}", content, "nothing was run")

FRAME = b"\x80\x04\x95" + struct.pack("<Q", 2**30) + b"."
OPCODES = {
    "an instance": (b"(i__builtin__\neval\n.", ""),
    "a call of eval": (b"\x80\x02c__builtin__\neval\n(tR.", "names '__builtin__.eval', which no"),
    "a global from the stack": (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", ""),
    "an extension": (b"\x80\x02\x82\x01.", ""),
    "a persistent id of text": (b"Pstorage\n.", ""),
    "a frame of a gigabyte": (FRAME, ""),
    "a string of a gigabyte": (b"\x80\x02X" + struct.pack("<I", 2**30) + b"x.", ""),
    "a memo of gigabytes": (b"\x80\x02Nr\xff\xff\xff\xff.", ""),
    "a call of nothing": (b"\x80\x02R.", ""),
    "no end": (b"\x80\x02}", ""),
    "no pickle": (b"", ""),
    "a key that is a tuple": (b"\x80\x02})\x85NsN.", ""),
    "keys that take for ever": (
        b"\x80\x02})" + b"".join(b"q\x01h\x01\x86" for _ in range(60)) + b"Ns.",
        "copies or hashes values much larger than itself",
    ),
    "a call of a dict": (b"\x80\x02})R.", ""),
    "a call of a storage": (b"\x80\x02ctorch\nFloatStorage\n)R.", ""),
    "the state of a global": (b"\x80\x02ccollections\nOrderedDict\n}b.", ""),
    "the state of a list": (b"\x80\x02]}b.", ""),
    "a dict that hides its methods": (
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\0\0\0itemsNsb.",
        "a dict must have no attribute but _metadata. Received: ['items']",
    ),
    "a dict of pairs": (b"\x80\x02ccollections\nOrderedDict\n]N\x85a\x85R.", ""),
    "a tensor of numbers": (
        b"\x80\x02}X\x01\0\0\0xctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03K\x04tRs.",
        "",
    ),
    "a parameter of a number": (
        b"\x80\x02}X\x01\0\0\0xctorch._utils\n_rebuild_parameter\nK\x01\x85Rs.",
        "",
    ),
    "a storage of a number": (b"\x80\x02K\x01Q.", "must describe its storages as torch does"),
}
LONG = b"](" + b"N" * 10_000 + b"e"
"""A list of 10,000 values."""

COPIES = b"q\x02ccollections\nCounter\nq\x03"
OPCODES |= {
    "a list copied a thousand times": (
        b"\x80\x02" + LONG + COPIES + b"h\x03h\x02\x85R0" * 1000 + b"}.",
        "copies or hashes values much larger than itself",
    ),
    "a list that grows after it was counted": (
        b"\x80\x02]q\x02\x85q\x04h\x02(" + b"N" * 10_000 + b"e}.",
        "changes a value that is already part of another",
    ),
    "a call that allocates": (
        b"\x80\x02c__builtin__\nbytearray\nJ\0\0\0\x40\x85R.",
        "names '__builtin__.bytearray', which no",
    ),
    "a tensor of any size": (b"\x80\x02ctorch\nTensor\nJ\0\0\0\x40\x85R.", "names 'torch.Tensor'"),
    "a text that doubles": (
        b"\x80\x02c_codecs\nencode\nq\x01X\x03\0\0\0hexq\x02"
        + b"X\x01\0\0\0x"
        + b"h\x01X\x01\0\0\0xX\x06\0\0\0latin1\x86R"
        + b"q\x03h\x01h\x03h\x02\x86R" * 40
        + b".",
        "copies or hashes values much larger than itself",
    ),
    "a scalar of gigabytes": (
        b"\x80\x02cnumpy\ndtype\nX\x0b\0\0\0V2000000000\x85R.",
        "must hold a state dict, or a dict with one. Received: NumpyDtype",
    ),
}
OPCODES = {name: (with_pickle(content), text) for name, (content, text) in OPCODES.items()}

CLAIMS = {
    "a larger shape": ({"shape": (5,)}, ""),
    "terabytes": ({"shape": (2**40,)}, ""),
    "huge strides": ({"shape": (2, 2), "strides": (2**60, 1)}, ""),
    "one value expanded": (
        {"shape": (2**40,), "strides": (0,)},
        "its tensors share values: copied, they have 4398046511104 bytes",
    ),
    "an offset": ({"offset": 1}, ""),
    "an offset below zero": ({"offset": -1}, ""),
    "a size below zero": ({"shape": (-4,)}, ""),
    "a stride below zero": ({"strides": (-1,)}, ""),
    "a size beyond 64 bits": ({"shape": (2**70, 0), "strides": (1, 1)}, ""),
    "too few strides": ({"strides": ()}, ""),
    "a size that is no number": ({"shape": ("4",)}, ""),
    "a larger storage": ({"count": 2**40}, "storage '0' claims 4398046511104 bytes; the file hol"),
    "a smaller storage": ({"count": 3, "shape": (3,)}, "claims 12 bytes; the file holds 16"),
    "a storage of wider values": ({"kind": "DoubleStorage"}, "claims 32 bytes; the file holds 16"),
    "a storage of fewer than none": ({"count": -4}, "must describe its storages as torch does"),
    "a storage that is not there": ({"key": "9"}, "'9' claims 16 bytes; the file holds 0"),
    "a storage elsewhere": ({"key": "../version"}, "claims 16 bytes; the file holds"),
    "complex values": ({"kind": "ComplexFloatStorage"}, "claims 32 bytes; the file holds 16"),
}
CLAIMS = {
    name: (with_pickle(tensor_pickle(**options)), text) for name, (options, text) in CLAIMS.items()
}

SHARED = torch.zeros(2**15)
CONTENTS = {
    **both(
        "complex numbers", {"x": torch.zeros(3, dtype=torch.complex64)}, "x must not be complex"
    ),
    **both(
        "sparse tensors", {"x": torch.zeros(3).to_sparse()}, "holds sparse tensors, which are not"
    ),
    **both("tensors without values", {"x": torch.zeros(3, device="meta")}, "holds meta tensors"),
    **both(
        "eight bits",
        {"x": torch.zeros(3).to(torch.float8_e4m3fn)},
        "tensors of a dtype without arithmetic",
    ),
    "quantised tensors": (saved(quantised()), "holds quantized tensors, which are not supported"),
    "nested tensors": (saved(nested()), "holds nested tensors, which are not"),
    **both("a value expanded", {"x": torch.zeros(1).expand(10**12)}, "its tensors share values"),
    **both(
        "views of one storage",
        {f"x{i}": SHARED[:] for i in range(100)},
        "its tensors share values: copied, they have 13107200 bytes",
    ),
    **both("NumPy arrays", {"x": np.zeros(3)}, "its values are not tensors: NumPy arrays"),
    **both("a list", [torch.zeros(1)], "must hold a state dict, or a dict with one. Received: li"),
    **both("a tensor", torch.zeros(1), "must hold a state dict, or a dict with one. Received: "),
    **both("nothing", {}, "must hold a state dict, or a dict with one"),
    **both("an empty state dict", {"state_dict": {}}, "must hold a state dict, or a dict with one"),
    **both("a number", {"x": 3}, "must hold a state dict, or a dict with one"),
    **both(
        "a name that is a number",
        {**ONE, 3: torch.zeros(1)},
        "must hold a state dict, or a dict with one",
    ),
    **both("a dict of dicts", {"x": {"y": torch.zeros(1)}}, ""),
    **both(
        "two state dicts",
        {"model": ONE, "model_ema": ONE},
        "",
    ),
    "metadata of numbers": (with_metadata({"k": 1}), "its metadata must be text by name"),
    "metadata that is a list": (with_metadata([1]), "its metadata must be text by name"),
}


def with_huge_storage():
    """A legacy file whose pickle claims a storage of 2^40 values."""
    content = saved(FOUR, new=False)
    old = b"X\x03\0\0\0cpuq"
    at = content.index(b"K\x04N", content.index(old))
    return content[:at] + b"\x8a\x06" + (2**40).to_bytes(6, "little") + content[at + 2 :]


ARCHIVES = {
    "two zips in one file": (
        saved(ONE) + saved(FOUR),
        "its zip directory must end where the file ends",
    ),
    "one name in two cases": (added("archive/DATA.PKL"), "must be in it once"),
    "a huge storage in legacy": (with_huge_storage(), "its storages claim 4398046511104 bytes"),
    "torchscript": (torchscript(), "a TorchScript archive, which is a program"),
    "a record twice": (twice(), "must be in it once"),
    "compressed records": (
        repacked(saved({"x": torch.zeros(10**6)}), lambda _: None, zipfile.ZIP_DEFLATED),
        "must be stored, and not encrypted",
    ),
    "two pickles": (added("other/data.pkl"), ""),
    "a huge pickle": (
        with_pickle(b"\x80\x02" + b"N0" * (MOST_PICKLE_BYTES // 2) + b"}."),
        "of at most 16 MiB",
    ),
    "a storage of another size in legacy": (with_false_size(), ""),
    "a legacy file without its storage": (saved(FOUR, new=False)[:-8], ""),
    "an order of bytes of nobody": (added("archive/byteorder", b"middle"), ""),
    "another pickle": (pickle.dumps({"x": 1}, protocol=2), ""),
}

TORCH = attacks("torch", PROGRAMS | OPCODES | CLAIMS | CONTENTS | ARCHIVES, container="pt")
