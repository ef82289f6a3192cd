"""Files of Julia's BSON.jl that each break one rule; https://bsonspec.org/spec.html."""

import struct

from attack import attacks


def document(**elements):
    """The bytes of a document of (kind, content) pairs by name."""
    body = b"".join(
        bytes([kind]) + name.encode() + b"\0" + content
        for name, (kind, content) in elements.items()
    )
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def text(value):
    return 2, struct.pack("<i", len(value) + 1) + value.encode() + b"\0"


def integer(number):
    return 0x12, struct.pack("<q", number)


def nested(**elements):
    return 3, document(**elements)


def listed(*elements):
    return 4, document(**{str(index): element for index, element in enumerate(elements)})


def binary(content):
    return 5, struct.pack("<i", len(content)) + b"\0" + content


def array(data=bytes(8), size=(2,), kind="Float32"):
    numbers = listed(*(integer(number) for number in size))
    typed = nested(tag=text("datatype"), params=listed(), name=listed(text("Core"), text(kind)))
    return nested(tag=text("array"), type=typed, size=numbers, data=binary(data))


def deep(count):
    content = document()
    for _ in range(count):
        content = document(m=(3, content))
    return content


REFERENCE = nested(tag=text("backref"), ref=integer(1))
TABLE = {
    "no model": (document(m=integer(3)), "it must have one model with Conv layers. Received: m"),
    "nothing in it": (
        document(_backrefs=listed()),
        "must have one model with Conv layers. Received: nothing",
    ),
    "a thousand documents deep": (deep(1000), "documents must be nested at most 200 deep"),
    "a kind of nobody": (
        document(w=integer(1), m=(0x13, bytes(16))),
        "a value's kind must be one that BSON.jl",
    ),
    "a text that is not whole": (
        document(m=(2, struct.pack("<i", 2**30) + b"x\0")),
        "a text's length must be in [1, ",
    ),
    "a text of no bytes": (
        document(m=(2, struct.pack("<i", 0))),
        "a text's length must be in [1, ",
    ),
    "a text without end": (
        document(m=(2, struct.pack("<i", 1) + b"x")),
        "a text must be UTF-8 and end in a zero",
    ),
    "bytes that are not there": (
        document(m=(5, struct.pack("<i", 2**30) + b"\0")),
        "the length of bytes must be in [0, ",
    ),
    "a document larger than the file": (
        document(m=(3, struct.pack("<i", 2**30) + b"\0")),
        "a document's length must be in [5, ",
    ),
    "a document of another length": (
        document(m=(3, struct.pack("<i", 6) + b"\0")),
        "a document must have 6 bytes, as it says. Received: 5",
    ),
    "a tag of nobody": (document(m=nested(tag=text("spell"))), "a tag must be one of BSON.jl's"),
    "a tag without its data": (
        document(m=nested(tag=text("tuple"))),
        "a value with a tag must have data. Received: tag",
    ),
    "a reference to nothing": (document(m=REFERENCE), "a reference must be in [1, 0]. Received: 1"),
    "a reference to itself": (
        document(m=REFERENCE, _backrefs=listed(REFERENCE)),
        "values must not refer to each other without end",
    ),
    "shared values that are a number": (
        document(m=REFERENCE, _backrefs=integer(1)),
        "_backrefs must be an array. Received: Int64",
    ),
    "an array of nobody's numbers": (
        document(m=array(kind="ComplexF32")),
        "an array's type must be one of Float16, Float32",
    ),
    "an array of a size below zero": (document(m=array(size=(-2,))), "size must be whole numbers"),
    "an array larger than its bytes": (
        document(m=array(size=(2**40,))),
        "must have as many values",
    ),
    "an array past 64 bits": (document(m=array(size=(2**62, 4))), "must have as many values"),
}

BSON = attacks("bson", TABLE, container="bson")
