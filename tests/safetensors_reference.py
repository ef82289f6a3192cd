"""A reference implementation of canonical safetensors files, without code of the package.

`python tests/safetensors_reference.py` writes julia/test/vectors/safetensors.json, to which both
languages' writers are held.
"""

import json
import struct
from pathlib import Path

VECTORS = Path(__file__).parents[1] / "julia/test/vectors/safetensors.json"
SIZES = {"F64": 8, "I64": 8, "F32": 4, "U8": 1}
SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b"}


def quoted(text):
    """A JSON string in ASCII; above U+FFFF two escapes, a UTF-16 surrogate pair."""
    escaped = ""
    for char in text:
        if char in SHORT:
            escaped += SHORT[char]
        elif " " <= char <= "~":
            escaped += char
        else:
            units = char.encode("utf-16-be").hex()
            escaped += "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
    return f'"{escaped}"'


def file_bytes(tensors, metadata):
    """`tensors`: (name, dtype, shape, bytes), in any order."""
    entries = []
    if metadata:
        pairs = (f"{quoted(key)}:{quoted(metadata[key])}" for key in sorted(metadata))
        entries.append('"__metadata__":{' + ",".join(pairs) + "}")
    ordered = sorted(tensors, key=lambda tensor: (-SIZES[tensor[1]], tensor[0].encode()))
    data = b""
    for name, dtype, shape, content in ordered:
        span = f"[{len(data)},{len(data) + len(content)}]"
        axes = ",".join(map(str, shape))
        entries.append(
            f'{quoted(name)}:{{"dtype":"{dtype}","shape":[{axes}],"data_offsets":{span}}}'
        )
        data += content
    header = ("{" + ",".join(entries) + "}").encode("ascii")
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def numbers(dtype, *values):
    return struct.pack(
        "<" + {"F64": "d", "I64": "q", "F32": "f", "U8": "B"}[dtype] * len(values), *values
    )


ODD_TEXT = 'quote " back \\ slash / tab \t null \0 escape \x1b delete \x7f line \u2028 end\n\r\f\b'
CASES = {
    "empty": ([], {}),
    "metadata alone": ([], {"format_version": "1"}),
    "one scalar": ([("optimizer.step", "I64", [], numbers("I64", -3))], {}),
    "order of dtypes and names": (
        [
            ("b", "F32", [2, 3], numbers("F32", 1, 2, 3, 4, 5, 6)),
            ("a", "U8", [3], numbers("U8", 0, 7, 255)),
            ("Z", "F32", [1], numbers("F32", -0.0)),
            ("d", "I64", [2], numbers("I64", 2**63 - 1, -(2**63))),
            ("c", "F64", [1, 2], numbers("F64", 1 / 3, 5e-324)),
            ("a.10", "F32", [1], numbers("F32", 10)),
            ("a.9", "F32", [1], numbers("F32", 9)),
            ("step", "I64", [], numbers("I64", 5)),
        ],
        {"z": "last", "A": "first", "m": ""},
    ),
    "tensors without values": (
        [
            ("none", "F32", [0, 3], b""),
            ("also none", "F64", [2, 0, 4], b""),
            ("some", "U8", [1], b"\x01"),
        ],
        {},
    ),
    "not a number": (
        [("x", "F32", [3], bytes.fromhex("0000c07f0000807f000080ff"))],
        {"json": '{"a":[1e-05,0.1],"b":"ü"}'},
    ),
    "control characters": ([("x", "U8", [1], b"\x2a")], {"odd": ODD_TEXT, "\n": "\x01\x1f"}),
    # U+FF5E sorts before U+1F600 by code point and by UTF-8 byte, after it by UTF-16 unit
    "beyond ASCII": (
        [
            ("\U0001f600", "F32", [1], numbers("F32", 1)),
            ("\uff5e", "F32", [1], numbers("F32", 2)),
            ("größe", "F32", [1], numbers("F32", 3)),
            ("grosse", "F32", [1], numbers("F32", 4)),
        ],
        {"\U0001f600": "smile \U0001f600", "\uff5e": "wide tilde", "é": "e\u0301", "日本": "語"},
    ),
}
ABOUT = (
    "Canonical safetensors files (see pymobilenet/formats/safetensors_file.py). tensors: name, "
    "dtype as in the file, shape (row-major, as torch has it) and little-endian bytes in hex; "
    "file: all its bytes in hex. Written by tests/safetensors_reference.py."
)


def record(name):
    tensors, metadata = CASES[name]
    return {
        "name": name,
        "tensors": [
            {"name": tensor, "dtype": dtype, "shape": shape, "hex": content.hex()}
            for tensor, dtype, shape, content in tensors
        ],
        "metadata": metadata,
        "file": file_bytes(tensors, metadata).hex(),
    }


if __name__ == "__main__":
    content = {"about": ABOUT, "cases": [record(name) for name in CASES]}
    VECTORS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
