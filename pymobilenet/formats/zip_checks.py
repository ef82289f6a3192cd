"""Checks of a zip's directory before anything is unpacked.

`zipfile` unpacks no more of a record than the directory declares, and verifies its checksum. It
lacks a bound on what a file may declare; it reads two records of one name, where other readers
choose the other one; and it reads a zip behind other content, which other readers reject.
"""

from __future__ import annotations

import zipfile

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def records(
    archive: zipfile.ZipFile, size: int, most: int, methods: tuple[int, ...]
) -> list[zipfile.ZipInfo]:
    """Return the directory of a zip, checked.

    Args:
        archive: The open zip.
        size: Bytes of its file.
        most: Bytes that its records may declare together, unpacked.
        methods: The ways of compression that are allowed: `STORED`, `DEFLATED`.

    Raises:
        ValueError: The rule that the directory breaks.
    """
    entries = archive.infolist()
    names: set[str] = set()
    for entry in entries:
        name = entry.filename
        if name.lower() in names:  # torch looks names up without regard to case
            raise ValueError(f"the record {name!r:.200} is in it twice")
        names.add(name.lower())
        if entry.compress_type not in methods or entry.flag_bits & 1:
            allowed = "stored or deflated" if DEFLATED in methods else "stored"
            raise ValueError(
                f"the record {name!r:.200} must be {allowed}, and not encrypted. Received: method "
                f"{entry.compress_type}, flags {entry.flag_bits}"
            )
    first = min((entry.header_offset for entry in entries), default=0)
    if first > 0:
        raise ValueError(f"its records must begin at byte 0. Received: byte {first}")
    packed = sum(entry.compress_size for entry in entries)
    if packed > size:
        raise ValueError(f"its records overlap: {packed} bytes of them in {size}")
    declared = sum(entry.file_size for entry in entries)
    if declared > most:
        raise ValueError(f"{size} bytes may unpack to {most} at most. Received: {declared}")
    return entries
