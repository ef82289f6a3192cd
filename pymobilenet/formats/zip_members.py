"""The members of a zip file, read without trust in what it declares.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT. Names, sizes and places are
held against the file before anything is unpacked, and nothing unpacks to more than it declares.
`zipfile` believes more, and reports it in its own words; MobileNets.jl has these rules in the same
words.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

LIMIT = 2**31 - 1
"""No 64-bit sizes are read: files are smaller than this."""

MOST_GROWTH = 20
"""Times its own size that a file may unpack to: deflate gains a tenth on trained weights, and a
thousandfold on the zeros of fresh moments, a few of which are let pass by `SMALL`."""

SMALL = 2**26
"""Bytes any file may unpack to."""

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_STORED, _DEFLATED = 0, 8


class Member(NamedTuple):
    name: str
    method: int
    checksum: int
    packed: int
    size: int
    offset: int


def members(content: bytes) -> list[Member]:
    """What the directory names, in its order, after all checks of names and sizes.

    Raises:
        ValueError: The rule that the file breaks.
    """
    at = content.rfind(_END, max(0, len(content) - 22 - 0xFFFF), max(0, len(content) - 22 + 4))
    require(at >= 0, "it has no zip directory")
    count, _, cursor = struct.unpack_from("<HLL", content, at + 10)
    require(cursor <= LIMIT and count < 0xFFFF, "it is a zip of 64 bits")
    found = []
    for _ in range(count):
        member, cursor = _member(content, cursor)
        found.append(member)
    _check_sizes(found, len(content))
    return found


def unpacked(content: bytes, member: Member) -> bytes:
    """A member's content: as many bytes as it declares, with the checksum it declares.

    Raises:
        ValueError: The rule that the member breaks.
    """
    name, at = member.name, member.offset
    require(_part(content, at, 4) == _LOCAL, f"{name} has no header at byte {at}")
    name_length, extra = struct.unpack("<HH", _part(content, at + 26, 4))
    packed = _part(content, at + 30 + name_length + extra, member.packed)
    if member.method == _STORED:
        rule = f"{name} is stored in {member.packed} bytes, and declares {member.size}"
        require(member.packed == member.size, rule)
        values = packed
    else:
        values = _inflated(packed, member)
    found = zlib.crc32(values)
    rule = f"{name} declares the checksum {member.checksum}. Received: {found}"
    require(found == member.checksum, rule)
    return values


def check_name(name: str) -> None:
    """Refuse a name that would lead out of a folder."""
    allowed = not name.startswith("/") and not {"\\", "\0"} & set(name)
    require(
        allowed and ".." not in name.split("/"),
        f"names must be relative, without backslash and NUL. Received: {name!r}",
    )


def _member(content: bytes, at: int) -> tuple[Member, int]:
    """The entry of the directory at byte `at`, and where the next one begins."""
    require(_part(content, at, 4) == _CENTRAL, f"its zip directory is broken at byte {at}")
    fields = struct.unpack("<4x4xHH4xLLLHHH8xL", _part(content, at, 46))
    flags, method, checksum, packed, size, name_length, extra, comment, offset = fields
    try:
        name = _part(content, at + 46, name_length).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"names must be UTF-8. Received: {error.object!r:.80}") from None
    check_name(name)
    plain = not flags & 1 and method in (_STORED, _DEFLATED)
    received = f"method {method}, flags {flags}"
    require(plain, f"{name} must be stored or deflated, and not encrypted. Received: {received}")
    largest = max(packed, size)
    require(largest <= LIMIT, f"{name} must have at most {LIMIT} bytes. Received: {largest}")
    member = Member(name, method, checksum, packed, size, offset)
    return member, at + 46 + name_length + extra + comment


def _check_sizes(found: list[Member], size: int) -> None:
    seen: set[str] = set()
    for member in found:
        require(member.name not in seen, f"{member.name} is in it twice")
        seen.add(member.name)
    packed = sum(member.packed for member in found)
    require(packed <= size, f"its members overlap: {packed} bytes of them in {size}")
    claimed, most = sum(member.size for member in found), max(SMALL, MOST_GROWTH * size)
    rule = f"{size} bytes may unpack to {most} at most. Received: {claimed}"
    require(claimed <= most, rule)


def _inflated(packed: bytes, member: Member) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        values = inflater.decompress(packed, member.size + 1)
        whole = inflater.eof and len(values) == member.size
    except zlib.error:
        whole = False
    require(whole, f"{member.name} does not unpack to the {member.size} bytes it declares")
    return values


def _part(content: bytes, at: int, count: int) -> bytes:
    require(at + count <= len(content), "it ends early")
    return content[at : at + count]


def require(rule: bool, message: str) -> None:
    """Raise a ValueError with `message` unless `rule` holds."""
    if not rule:
        raise ValueError(message)
