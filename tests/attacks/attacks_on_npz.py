"""npz files that each break one rule: of the zip, of a member's header, or of the metadata."""

import struct
import zipfile

from attack import attacks
from npz_files import END, ENTRY, header, member, patched, zipped

GOOD = zipped([("x.npy", member())])
LONG = member(bytes(40_000), shape="(10000,)")
DEFLATED = zipped([("x.npy", LONG)], zipfile.ZIP_DEFLATED)


def single(**header):
    return zipped([("x.npy", member(**header))])


def named(name):
    return zipped([(name, member())])


def texts(content):
    described = {"descr": "'|u1'", "shape": f"({len(content)},)"}
    return zipped([("__metadata__.npy", member(content, **described))])


def of_entries(count):
    """A zip whose directory names one member so many times, each by another name."""
    content = zipped([("x.npy", LONG)])
    start, end = content.index(ENTRY), content.index(END)
    entries = b"".join(content[start:end].replace(b"x.npy", b"%d.npy" % i) for i in range(count))
    tail = struct.pack("<4s4H2LH", END, 0, 0, count, count, len(entries), start, 0)
    return content[:start] + entries + tail


def header_of_version_2(length):
    """An .npy 2.0 that says its header has so many bytes."""
    return b"\x93NUMPY\x02\x00" + struct.pack("<L", length) + header()[10:] + bytes(8)


ZIP = {
    "no directory": GOOD[: GOOD.index(ENTRY)],
    "a directory that is cut": GOOD[:-30],
    "a directory that is elsewhere": patched(GOOD, END, 16, 3),
    "a directory behind the end": patched(GOOD, END, 16, 10**6),
    "more entries than there are": patched(GOOD, END, 10, 2, 2),
    "a directory of 64 bits": patched(GOOD, END, 16, 2**32 - 1),
    "as many entries as can be": patched(GOOD, END, 10, 0xFFFF, 2),
    "an absolute name": (named("/x.npy"), "names must be relative, without backslash and NUL"),
    "a name that climbs": (named("w/../x.npy"), "names must be relative"),
    "a name that begins above": (named("../x.npy"), "names must be relative"),
    "a name of Windows": (named("w\\x.npy"), "names must be relative"),
    "a name with NUL": (GOOD.replace(b"x.npy", b"\0.npy"), "members must be .npy"),
    "a name that is no UTF-8": (GOOD.replace(b"x.npy", b"\xff.npy"), "names must be UTF-8"),
    "a method of others": (
        zipped([("x.npy", member())], zipfile.ZIP_BZIP2),
        "the record 'x.npy' must be stored or deflated, and not encrypted. Received: method 12",
    ),
    "lzma": (zipped([("x.npy", member())], zipfile.ZIP_LZMA), "must be stored or deflated"),
    "an encrypted member": (patched(GOOD, ENTRY, 8, 1, 2), "and not encrypted. Received: method 0"),
    "four gigabytes": (
        patched(GOOD, ENTRY, 24, 2**32 - 1),
        "may unpack to 67108864 at most. Received: 4294967295",
    ),
    "a name twice": (zipped([("x.npy", member())] * 2), "the record 'x.npy' must be in it once"),
    "members that overlap": (of_entries(9), "its records overlap: "),
    "a member larger than the file": (patched(GOOD, ENTRY, 20, 10**6), "its records overlap: "),
    "a bomb": (
        zipped([("x.npy", member(bytes(10**8), shape="(25000000,)"))], zipfile.ZIP_DEFLATED),
        "bytes may unpack to 67108864 at most. Received: 1000000",
    ),
    "a bomb in the directory alone": (
        patched(GOOD, ENTRY, 24, 10**8),
        "may unpack to 67108864 at most",
    ),
    "a member that is elsewhere": patched(GOOD, ENTRY, 42, 7),
    "a member behind the end": patched(GOOD, ENTRY, 42, 10**6),
    "a member stored in another size": patched(GOOD, ENTRY, 24, 10),
    "a member that unpacks to more": patched(DEFLATED, ENTRY, 24, 1000),
    "a member that unpacks to less": (
        patched(DEFLATED, ENTRY, 24, 10**6),
        "must have 40000 bytes. Received: 999928",
    ),
    "a member that is no deflate": patched(GOOD, ENTRY, 10, 8, 2),
    "another checksum": patched(GOOD, ENTRY, 16, 10),
    "values that were changed": zipped([("x.npy", member(b"abcdefgh"))]).replace(
        b"abcdefgh", b"abcdefgi"
    ),
}

NPY = {
    "another file beside": (
        zipped([("w.npy", member()), ("x.txt", b"hello")]),
        "members must be .npy. Received: 'x.txt'",
    ),
    "a name that is markup": (
        zipped([("w.npy", member()), ("[/x].txt", b"")]),
        "members must be .npy. Received: '[/x].txt'",
    ),
    "a folder beside": (zipped([("w.npy", member()), ("x.npy/", b"")]), "members must be .npy"),
    "an empty member": zipped([("x.npy", b"")]),
    "text in a member": zipped([("x.npy", b"once upon a time")]),
    "a pickle in a member": zipped([("x.npy", b"\x80\x04cos\nsystem\n.")]),
    "version 3": (
        zipped([("x.npy", member().replace(b"\x01\x00", b"\x03\x00", 1))]),
        "x.npy must be .npy 1.0 or 2.0. Received: (3, 0)",
    ),
    "a header past its member": zipped([("x.npy", member()[:40])]),
    "a header of four gigabytes": zipped([("x.npy", header_of_version_2(2**32 - 1))]),
    "records": (single(descr="[('a', '<f4')]"), "dtype must be one of"),
    "subarrays": (single(descr="('<f4', (2,))"), "dtype must be one of"),
    "a size below zero": (single(shape="(-2,)"), "must have -8 bytes. Received: 8"),
    "a size that is text": single(shape="('a',)"),
    "a program as shape": single(shape="(__import__('os').system('touch MARKER'),)"),
    "a header that nests": single(shape="(" * 3000),
    "a header with another field": single(shape="(2,), 'x': ()"),
    "a header that is no ASCII": single(descr="'\xff'"),
    "a field twice": zipped(
        [("x.npy", header().replace(b"'fortran_order': False", b"'shape'         : (2,)"))]
    ),
    "objects": (single(descr="'|O'"), "x.npy: dtype must be one of b1, f2, f4"),
    "text": (single(descr="'<U1'"), "dtype must be one of"),
    "bytes": (single(descr="'|S4'"), "dtype must be one of"),
    "complex numbers": (single(descr="'<c8'"), "dtype must be one of"),
    "times": (single(descr="'<M8[s]'"), "dtype must be one of"),
    "void": (single(descr="'|V4'"), "dtype must be one of"),
    "quadruple precision": (single(descr="'<f16'"), "dtype must be one of"),
    "a size past 64 bits": (
        single(shape=f"({2**63},)"),
        "must have 36893488147419103232 bytes",
    ),
    "a size of a hundred digits": single(shape=f"({'9' * 100},)"),
    "a size of two words": single(shape="(2 2)"),
    "65 axes": (single(shape=f"({'1,' * 65})"), "must have 4 bytes. Received: 8"),
    "more bytes than can be counted": (
        single(shape=f"({2**62}, 4)"),
        "must have 73786976294838206464 bytes",
    ),
    "more than is there": (
        single(shape="(3,)"),
        "x.npy of shape (3,) and float32 must have 12 bytes. Received: 8",
    ),
    "less than is there": (single(shape="(1,)"), "must have 4 bytes. Received: 8"),
    "a scalar of two values": (single(shape="()"), "must have 4 bytes. Received: 8"),
    "exabytes": (
        single(shape=f"({2**60},)"),
        "must have 4611686018427387904 bytes. Received: 8",
    ),
    "metadata of floats": (
        zipped([("__metadata__.npy", member())]),
        "__metadata__ must be bytes: uint8 of one axis. Received: 1 of float32",
    ),
    "metadata of two axes": (
        zipped([("__metadata__.npy", member(descr="'|u1'", shape="(2, 4)"))]),
        "must be bytes: uint8 of one axis. Received: 2 of uint8",
    ),
    "metadata that is no UTF-8": (texts(b"\xff\xfe"), "not valid UTF-8"),
    "metadata that is no JSON": (texts(b"{"), "npz file: not JSON ("),
    "metadata that nests": (texts(b"[" * 50_000), "not JSON"),
    "metadata that is a list": (texts(b"[]"), "not a JSON object. Received: []"),
    "metadata of numbers": (texts(b'{"k":1}'), 'be an object of strings. Received: {"k":1}'),
    "metadata with a name twice": (texts(b'{"k":"1","k":"2"}'), 'the name "k" appears twice'),
    "metadata with half a character": (texts(b'{"k":"\\ud800"}'), "half a surrogate pair"),
}

NPZ = attacks("npz", ZIP | NPY, container="npz")
