"""What a torch file claims to hold, found out without torch, without running or allocating it.

torch's files are pickles that call functions to make tensors; `torch.load` restricts which, and
believes their arguments. Here every claim (the size of a storage, the extent of a tensor in it) is
held against the bytes the file has. Only a file that passes is given to `torch.load`.

Formats: torch/serialization.py, `_save` (a zip of ``data.pkl`` and one record for each storage) and
`_legacy_save` (five pickles, then the storages).
"""

from __future__ import annotations

import io
import reprlib
import zipfile
from typing import Any

from pymobilenet.errors import WeightsError
from pymobilenet.formats.torch_unpickler import TorchUnpickler

MOST_PICKLE_BYTES = 2**24
"""The pickle of a MobileNet's state has some 50 KiB, with optimizer and schedule some 150."""

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # torch/serialization.py, MAGIC_NUMBER


def outline(content: bytes) -> Any:
    """The object in a torch file, with a `Claim` in place of each tensor and dicts as they are.

    Raises:
        WeightsError: Anything that is not what `torch.save` makes of dicts of tensors, numbers and
            text; the rule, without the name of the file.
    """
    try:
        if zipfile.is_zipfile(io.BytesIO(content)) and content.startswith(b"PK"):
            return _of_zip(content)
        return _of_legacy(content)
    except WeightsError:
        raise
    except Exception as error:  # a malformed file can raise nearly anything
        raise WeightsError(
            "truncated, or not a state dict as torch.save writes one: "
            f"{type(error).__name__} {reprlib.repr(str(error))}"
        ) from None


def _of_zip(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes: dict[str, int] = {}
        for record in archive.infolist():
            if record.filename in sizes:
                raise WeightsError(f"the record {record.filename!r} is in it twice")
            if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 0x1:
                raise WeightsError(f"the record {record.filename!r} must be stored, as torch does")
            sizes[record.filename] = record.file_size
        if sum(sizes.values()) > len(content):
            raise WeightsError(
                f"its records overlap: {sum(sizes.values())} bytes in {len(content)}"
            )
        pickles = [name for name in sizes if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsError(f"must hold one data.pkl. Received: {pickles}")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in sizes:
            raise WeightsError(
                "a TorchScript archive, which is a program; load it with torch.jit.load and save "
                "its state_dict()"
            )
        if sizes[pickles[0]] > MOST_PICKLE_BYTES:
            raise WeightsError(
                f"{pickles[0]} has {sizes[pickles[0]]} bytes; {MOST_PICKLE_BYTES} at most"
            )
        reader = TorchUnpickler(archive.read(pickles[0]))
        found = reader.load()
    for storage in reader.storages.values():
        held = sizes.get(f"{folder}data/{storage.key}")
        if held != storage.nbytes:
            raise WeightsError(
                f"storage {storage.key!r} claims {storage.nbytes} bytes; the file holds {held or 0}"
            )
    return found


def _of_legacy(content: bytes) -> Any:
    """Magic number, protocol and system, then the object and its storages' keys, as pickles."""
    reader = TorchUnpickler(content)
    if reader.load() != _MAGIC or reader.load() != _PROTOCOL:
        raise WeightsError("a pickle that torch.save did not write")
    reader.load()
    found = reader.load()
    keys = reader.load()
    if type(keys) is not list or sorted(keys) != sorted(reader.storages):
        raise WeightsError(
            f"its list of storages names others than its tensors: {reprlib.repr(keys)}"
        )
    left = memoryview(content)[reader.position :]
    for key in keys:
        storage = reader.storages[key]
        if int.from_bytes(left[:8], "little") != storage.length:
            raise WeightsError(f"storage {key!r} claims {storage.length} values, and holds others")
        if len(left) < 8 + storage.nbytes:
            raise WeightsError(
                f"storage {key!r} claims {storage.nbytes} bytes; {len(left)} are left"
            )
        left = left[8 + storage.nbytes :]
    return found
