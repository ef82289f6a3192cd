"""Files that each break one rule of the safetensors format."""

import json
import struct

from attack import as_file, attacks

X = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def header(**changes):
    """One tensor x of two values, with these fields changed."""
    return json.dumps({"x": {**X, **changes}})


def single(data=bytes(8), **changes):
    return as_file(header(**changes), data)


def pair(first, second, data):
    """Two tensors of one value each, with these data_offsets."""
    entries = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": span}
        for name, span in (("w", first), ("x", second))
    }
    return as_file(json.dumps(entries), data)


WITHOUT_SHAPE = {key: X[key] for key in ("dtype", "data_offsets")}
NUMBERS = {
    "minus two": -2, "a float": 2.0, "true": True, "text": "2", "null": None, "nested": [2],
    "past 64 bits": 2**63, "past 128 bits": 2**128,
}  # fmt: skip

TABLE = {
    "a header past the limit": struct.pack("<Q", 100_000_001) + b"{" + bytes(99),
    "a header of 2^64 - 1 bytes": b"\xff" * 8 + b"{}" + bytes(99),
    "a header past the end": struct.pack("<Q", 99) + b"{}",
    "a header by one byte past the end": struct.pack("<Q", 3) + b"{}",
    "a space before the header": (
        as_file(" " + header(), bytes(8)),
        "the header must begin with '{'. Received: b' '",
    ),
    "a list as header": as_file("[]"),
    "an empty header": bytes(8),
    "a header that is no UTF-8": as_file(b'{"\xff":1}'),
    "a header that ends early": as_file(header()[:-1], bytes(8)),
    "a header with a comment": as_file(header() + "//", bytes(8)),
    "zeros behind the header": as_file(header() + "\0\0", bytes(8)),
    "NaN in the header": as_file(header(shape=[float("nan")]), bytes(8)),
    "a single quote": as_file(header().replace('"', "'"), bytes(8)),
    "a header that nests without end": as_file('{"x":' + "[" * 50_000),
    "a number of a thousand digits": as_file(header().replace("[2]", f"[{'9' * 999}]"), bytes(8)),
    "a tensor twice": (
        as_file(f"{header()[:-1]}, {header()[1:]}", bytes(8)),
        'the name "x" appears twice',
    ),
    "metadata twice": as_file('{"__metadata__":{},"__metadata__":{}}'),
    "a field twice": as_file(header().replace('"shape"', '"dtype": "F64", "shape"'), bytes(8)),
    "half a surrogate pair": as_file(header().replace("x", "\\ud800"), bytes(8)),
    "half a surrogate pair in metadata": as_file('{"__metadata__":{"k":"\\udc00"}}'),
    "metadata of numbers": as_file('{"__metadata__":{"k":1}}'),
    "metadata that is a list": as_file('{"__metadata__":[]}'),
    "metadata that is null": (as_file('{"__metadata__":null}'), "an object of strings"),
    "metadata that nests": as_file('{"__metadata__":{"k":{}}}'),
    "a tensor without shape": as_file(json.dumps({"x": WITHOUT_SHAPE}), bytes(8)),
    "a tensor that is a number": as_file('{"x":3}'),
    "a tensor that is null": as_file('{"x":null}'),
    "a dtype of nobody": single(dtype="F31"),
    "a dtype of quantised weights": single(dtype="F8_E4M3"),
    "a dtype in lower case": single(dtype="f32"),
    "a dtype that is a number": single(dtype=32),
    "a dtype that is a list": single(dtype=["F32"]),
    "a shape that is a number": single(shape=2),
    "65 axes": single(bytes(4), shape=[1] * 65, data_offsets=[0, 4]),
    "one offset": single(data_offsets=[8]),
    "three offsets": single(data_offsets=[0, 4, 8]),
    "offsets below zero": single(data_offsets=[-8, 0]),
    "offsets that are floats": single(data_offsets=[0.0, 8.0]),
    "offsets that are flags": single(data_offsets=[False, 8]),
    "a shape past 64 bits": single(shape=[2**62, 4], data_offsets=[0, 8]),
    "a shape past 64 bits and back": single(b"", shape=[2**62, 4, 0], data_offsets=[0, 0]),
    "bytes past 64 bits": single(shape=[2**61]),
    "more values than offsets": single(shape=[3]),
    "fewer values than offsets": single(shape=[1]),
    "offsets that end before they begin": single(data_offsets=[8, 0]),
    "exabytes": single(shape=[2**60]),
    "a hole": pair([0, 4], [8, 12], bytes(12)),
    "a hole at the start": single(bytes(12), data_offsets=[4, 12]),
    "an overlap": pair([0, 4], [2, 6], bytes(6)),
    "one place for two": pair([0, 4], [0, 4], bytes(4)),
    "data that end early": single(bytes(7)),
    "data that go on": single(bytes(9)),
    "data without tensors": as_file("{}", bytes(8)),
    "terabytes that are not there": single(shape=[2**40], data_offsets=[0, 2**42]),
}
TABLE |= {f"a size that is {name}": single(shape=[value]) for name, value in NUMBERS.items()}
TABLE |= {
    f"an offset that is {name}": single(data_offsets=[0, value]) for name, value in NUMBERS.items()
}

SAFETENSORS = attacks("safetensors", TABLE, container="safetensors")
