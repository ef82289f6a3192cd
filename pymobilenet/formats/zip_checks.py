"""Checks of a zip's directory before anything is unpacked.

`zipfile` unpacks no more of a record than the directory declares, and verifies its checksum. It
lacks a bound on the declared sizes; it accepts two records of one name, of which other readers
choose the other one; and it accepts a zip after other content, which other readers reject.
"""

from __future__ import annotations

import zipfile

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def records(
    archive: zipfile.ZipFile, size: int, most: int, methods: tuple[int, ...]
) -> list[zipfile.ZipInfo]:
    """Check the directory of a zip and return its records.

    Args:
        archive: The open zip.
        size: The size of the file in bytes.
        most: The most bytes that all records together may declare, unpacked.
        methods: The allowed methods of compression: `STORED`, `DEFLATED`.

    Returns:
        The records in the order of the directory.

    Raises:
        ValueError: The directory breaks a rule, which the message states.
    """
    entries = archive.infolist()
    names: set[str] = set()
    for entry in entries:
        name = entry.filename
        if name.lower() in names:  # torch looks names up without regard to case
            raise ValueError(f"the record {name!r:.200} must be in it once. Received: twice")
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
