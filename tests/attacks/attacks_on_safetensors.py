"""Files that each break one rule of the safetensors format."""

import json
import struct

from attack import attacks, lengthened

X = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def header(**changes):
    """One tensor x of two values, with these fields changed."""
    return json.dumps({"x": {**X, **changes}})


def one(data=bytes(8), **changes):
    return lengthened(header(**changes), data)


def two(first, second, data):
    """Two tensors of one value each, at these places."""
    entries = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": span}
        for name, span in (("w", first), ("x", second))
    }
    return lengthened(json.dumps(entries), data)


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
        lengthened(" " + header(), bytes(8)),
        "the header must begin with '{'. Received: b' '",
    ),
    "a list as header": lengthened("[]"),
    "an empty header": bytes(8),
    "a header that is no UTF-8": lengthened(b'{"\xff":1}'),
    "a header that ends early": lengthened(header()[:-1], bytes(8)),
    "a header with a comment": lengthened(header() + "//", bytes(8)),
    "zeros behind the header": lengthened(header() + "\0\0", bytes(8)),
    "NaN in the header": lengthened(header(shape=[float("nan")]), bytes(8)),
    "a single quote": lengthened(header().replace('"', "'"), bytes(8)),
    "a header that nests without end": lengthened('{"x":' + "[" * 50_000),
    "a number of a thousand digits": lengthened(
        header().replace("[2]", f"[{'9' * 999}]"), bytes(8)
    ),
    "a tensor twice": (
        lengthened(f"{header()[:-1]}, {header()[1:]}", bytes(8)),
        'the name "x" appears twice',
    ),
    "metadata twice": lengthened('{"__metadata__":{},"__metadata__":{}}'),
    "a field twice": lengthened(header().replace('"shape"', '"dtype": "F64", "shape"'), bytes(8)),
    "half a surrogate pair": lengthened(header().replace("x", "\\ud800"), bytes(8)),
    "half a surrogate pair in metadata": lengthened('{"__metadata__":{"k":"\\udc00"}}'),
    "metadata of numbers": lengthened('{"__metadata__":{"k":1}}'),
    "metadata that is a list": lengthened('{"__metadata__":[]}'),
    "metadata that is null": (lengthened('{"__metadata__":null}'), "an object of strings"),
    "metadata that nests": lengthened('{"__metadata__":{"k":{}}}'),
    "a tensor without shape": lengthened(json.dumps({"x": WITHOUT_SHAPE}), bytes(8)),
    "a tensor that is a number": lengthened('{"x":3}'),
    "a tensor that is null": lengthened('{"x":null}'),
    "a dtype of nobody": one(dtype="F31"),
    "a dtype of quantised weights": one(dtype="F8_E4M3"),
    "a dtype in lower case": one(dtype="f32"),
    "a dtype that is a number": one(dtype=32),
    "a dtype that is a list": one(dtype=["F32"]),
    "a shape that is a number": one(shape=2),
    "65 axes": one(bytes(4), shape=[1] * 65, data_offsets=[0, 4]),
    "one offset": one(data_offsets=[8]),
    "three offsets": one(data_offsets=[0, 4, 8]),
    "offsets below zero": one(data_offsets=[-8, 0]),
    "offsets that are floats": one(data_offsets=[0.0, 8.0]),
    "offsets that are flags": one(data_offsets=[False, 8]),
    "a shape past 64 bits": one(shape=[2**62, 4], data_offsets=[0, 8]),
    "a shape past 64 bits and back": one(b"", shape=[2**62, 4, 0], data_offsets=[0, 0]),
    "bytes past 64 bits": one(shape=[2**61]),
    "more values than offsets": one(shape=[3]),
    "fewer values than offsets": one(shape=[1]),
    "offsets that end before they begin": one(data_offsets=[8, 0]),
    "exabytes": one(shape=[2**60]),
    "a hole": two([0, 4], [8, 12], bytes(12)),
    "a hole at the start": one(bytes(12), data_offsets=[4, 12]),
    "an overlap": two([0, 4], [2, 6], bytes(6)),
    "one place for two": two([0, 4], [0, 4], bytes(4)),
    "data that end early": one(bytes(7)),
    "data that go on": one(bytes(9)),
    "data without tensors": lengthened("{}", bytes(8)),
    "terabytes that are not there": one(shape=[2**40], data_offsets=[0, 2**42]),
}
TABLE |= {f"a size that is {name}": one(shape=[value]) for name, value in NUMBERS.items()}
TABLE |= {
    f"an offset that is {name}": one(data_offsets=[0, value]) for name, value in NUMBERS.items()
}

SAFETENSORS = attacks("safetensors", TABLE, container="safetensors")
