"""npz files assembled byte by byte, with any header."""

import io
import struct
import warnings
import zipfile

ENTRY, END = b"PK\x01\x02", b"PK\x05\x06"


def header(descr="'<f4'", order="False", shape="(2,)"):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode("latin-1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def member(values=bytes(8), **described):
    return header(**described) + values


def zipped(members, method=zipfile.ZIP_STORED):
    """The bytes of a zip of (name, bytes) pairs, which may repeat a name."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def patched(content, part, offset, number, size=4):
    """A zip with a number in its first entry (`ENTRY`) or its end (`END`) replaced."""
    at = content.index(part) + offset
    return content[:at] + number.to_bytes(size, "little") + content[at + size :]
