"""What a file is, by its content, and what its names are, by the layouts they fit."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.formats.conversion_report import ConversionReport
from pymobilenet.formats.layout import Layout
from pymobilenet.weights.state import truncate

HDF5 = b"\x89HDF\r\n\x1a\n"
"""https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, section II.A: at 0, 512,
1024, ... bytes."""

JLD2 = b"HDF5-based Julia Data Format"
"""JLD2.jl, src/JLD2.jl, FORMAT_VERSION: before the HDF5 signature at 512 bytes."""

LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""torch/serialization.py, `_legacy_save`: the pickled MAGIC_NUMBER."""

ONNX = re.compile(rb"\x08[\x01-\x1f](?:\x12|\x1a|\x22|\x28|\x32|\x3a|\x42)")
"""onnx.proto, ModelProto: ir_version, a small number, then another of its fields."""


def detect_container(path: str | Path) -> str:
    """The container `path` is, by its bytes alone: "safetensors", "npz", "pt", "keras", "jld2" or
    "bson".

    Raises:
        WeightsError: None of these, or one that holds no weights to read.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(2048)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # the second: of no members
            name_length = int.from_bytes(start[26:28], "little")
            if start[30 : 30 + name_length].endswith(b".npy"):
                return "npz"  # whose reader says what is wrong with it
            return _of_zip(file, path)
    if start.startswith(LEGACY_TORCH):
        return "pt"
    if start.startswith(JLD2):
        return "jld2"
    if start.startswith(HDF5) or start[512:].startswith(HDF5) or start[1024:].startswith(HDF5):
        return "keras"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return "safetensors"
    if len(start) > 4 and int.from_bytes(start[:4], "little") == size and start[4] in range(1, 20):
        return "bson"
    if ONNX.match(start):
        raise WeightsError(
            f"{path}: an ONNX graph, which is an export and not a file of weights: give the file "
            "it was exported from"
        )
    if start.startswith(b"\x80"):
        raise WeightsError(f"{path}: a pickle that torch.save did not write; pickles are not run")
    if start[8:9] == b"{":  # a header larger than the file: its reader says so
        return "safetensors"
    raise WeightsError(
        f"{path} ({size} bytes): must be safetensors, npz, torch's, HDF5 (Keras), JLD2 or BSON. "
        f"Received: a file that begins with {start[:8]!r}"
    )


def _of_zip(file: BinaryIO, path: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception as error:  # a malformed zip can raise nearly anything
        raise WeightsError(f"{path}: a truncated or malformed zip: {error}") from None
    if any(name.endswith("/data.pkl") for name in names):
        return "pt"
    if "model.weights.h5" in names:
        raise WeightsError(
            f"{path}: a Keras archive, which holds a program too; save the weights alone: "
            'model.save_weights("model.weights.h5")'
        )
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise WeightsError(
        f"{path}: a zip that is neither npz (all members .npy) nor torch's (a data.pkl). "
        f"Received: {truncate(names)}"
    )


def detect_layout(
    names: Iterable[str], layouts: Sequence[Layout], container: str, source: str
) -> tuple[Layout, str, ConversionReport]:
    """The one layout, and its family, that has exactly these `names`; and how they pair.

    Raises:
        WeightsError: No layout has them, in which case the message reports the nearest, or more
            than one has, in which case it names them.
    """
    found = frozenset(names)
    tried = [
        (layout, family, pair(layout, family, found, container))
        for layout in layouts
        for family in layout.families
    ]
    fits = [trial for trial in tried if trial[2].fits]
    if len(fits) == 1:
        return fits[0]
    if fits:
        both = " and ".join(f"{layout.name} {family}" for layout, family, _ in fits)
        raise WeightsError(f"{source}: its names are those of {both}; say which")
    layout, _, nearest = min(
        tried, key=lambda trial: len(trial[2].missing) + len(trial[2].left_over)
    )
    if not any(report.matched for _, _, report in tried):
        known = " or ".join(dict.fromkeys(layout.name for layout in layouts))
        raise WeightsError(
            f"{source}: no name is one of {known}. Received: {truncate(sorted(found))}"
        )
    hint = f". {layout.hint}" if layout.hint else ""
    raise WeightsError(
        f"{source}: its names fit no layout; the nearest is {nearest.layout}: missing "
        f"{truncate(nearest.missing)}; left over {truncate(nearest.left_over)}{hint}"
    )


def pair(layout: Layout, family: str, names: frozenset[str], container: str) -> ConversionReport:
    """How `names` pair with those of the layout's nets of `family`."""
    wanted = layout.rename(MobileNetConfig(family))
    peers = set(wanted.values())
    others = sorted(names - peers)
    ignored = [name for name in others if layout.ignored and re.fullmatch(layout.ignored, name)]
    return ConversionReport(
        container=container,
        layout=f"{layout.name} {family}",
        matched={ours: peer for ours, peer in wanted.items() if peer in names},
        missing=tuple(peer for peer in wanted.values() if peer not in names),
        left_over=tuple(name for name in others if name not in ignored),
        ignored=tuple(ignored),
    )
