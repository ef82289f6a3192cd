"""Detection of a file's container by its content."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import BinaryIO

from pymobilenet.errors import WeightsError
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


_FOREIGN = (
    (
        re.compile(rb"\Aversion https://git-lfs"),
        "a pointer of git-lfs, not the file itself: fetch it with `git lfs pull`",
    ),
    (
        re.compile(rb"\A\s*(?:<!doctype html|<html|<\?xml)", re.IGNORECASE),
        "a web page, not a model: the download gave an error page or a viewer; take the link to "
        "the raw file",
    ),
    (
        re.compile(rb"\A.{4}TFL3", re.DOTALL),
        "a TensorFlow Lite model, whose weights are folded and often quantized: give the Keras "
        "model or the checkpoint that it was made from",
    ),
    (
        re.compile(
            rb"\A\n.{1,6}\n.{1,120}\x12.{1,3}(?:Const|Placeholder|PlaceholderV2)", re.DOTALL
        ),
        "a frozen TensorFlow graph (.pb): give the Keras model that it was made from, or an ONNX "
        "file of it",
    ),
    (
        re.compile(rb"\A\x08\x01\x12"),
        "a TensorFlow SavedModel (saved_model.pb): load it in Keras and save it as .keras or "
        ".weights.h5",
    ),
    (
        re.compile(rb"\A\s*\{\s*\"(?:weight_map|metadata)\"", re.DOTALL),
        "an index of a model in several files: give the folder that it is in",
    ),
    (re.compile(rb"\A\s*[\[{]\s*\""), "JSON, not a model: give the file of weights"),
    (re.compile(rb"\A(?:\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf)"), "compressed: unpack it first"),
)
"""First bytes of files that are not supported, and the error message for each. TensorFlow Lite:
tensorflow/lite/schema, file_identifier; SavedModel and GraphDef: tensorflow/core/protobuf and
framework."""


def detect_container(path: str | Path) -> str:
    """Return the container of a file, detected by its bytes alone.

    Args:
        path: The file.

    Returns:
        A key of `registry.CONTAINERS`: "safetensors", "npz", "pt", "keras", "onnx", "jld2" or
        "bson".

    Raises:
        WeightsError: The file is missing, or in none of these formats. For formats that other
            programs convert, the message states how.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: {_describe_folder(path)}")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(2048)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # the second: of no members
            name_length = int.from_bytes(start[26:28], "little")
            if start[30 : 30 + name_length].endswith(b".npy"):
                return "npz"  # even if its directory is damaged: the npz reader states the error
            return _detect_zip(file, path)
    if start.startswith(LEGACY_TORCH):
        return "pt"
    if start.startswith(JLD2):
        return "jld2"
    if start.startswith(HDF5) or start[512:].startswith(HDF5) or start[1024:].startswith(HDF5):
        return "keras"
    for signature, message in _FOREIGN:
        if signature.search(start):
            raise WeightsError(f"{path}: {message}")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return "safetensors"
    if len(start) > 4 and int.from_bytes(start[:4], "little") == size and start[4] in range(1, 20):
        return "bson"
    if ONNX.match(start):
        return "onnx"
    if start.startswith(b"\x80"):
        raise WeightsError(f"{path}: a pickle that torch.save did not write; pickles are not run")
    if start[8:9] == b"{":  # a header larger than the file: the safetensors reader states the error
        return "safetensors"
    raise WeightsError(
        f"{path} ({size} bytes): must be safetensors, npz, torch's, HDF5 (Keras), JLD2 or BSON. "
        f"Received: a file that begins with {start[:8]!r}"
    )


def _detect_zip(file: BinaryIO, path: Path) -> str:
    """Return the container of a zip, detected by the names of its members."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception as error:  # a malformed zip can raise nearly anything
        raise WeightsError(f"{path}: a truncated or malformed zip: {error}") from None
    if any("/code/" in name for name in names) and any("constants.pkl" in name for name in names):
        raise WeightsError(
            f"{path}: a TorchScript model, which is a program with weights: load it where it is "
            "trusted, and save the weights alone: "
            "torch.save(torch.jit.load(path).state_dict(), new_path)"
        )
    if any(
        name.endswith((".pt2", "archive_format", "serialized_exported_program.json"))
        for name in names
    ):
        raise WeightsError(
            f"{path}: a program of torch.export (.pt2): load it where it is trusted, and save the "
            "weights alone: torch.save(torch.export.load(path).state_dict, new_path)"
        )
    if any(name.endswith("/data.pkl") for name in names):
        return "pt"
    if "model.weights.h5" in names:
        return "keras"
    if any(name.endswith("saved_model.pb") for name in names):
        raise WeightsError(f"{path}: a zip of a TensorFlow SavedModel: save it as .keras in Keras")
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise WeightsError(
        f"{path}: a zip that is neither npz (all members .npy) nor torch's (a data.pkl). "
        f"Received: {truncate(names)}"
    )


def _describe_folder(path: Path) -> str:
    """Return the error message for a folder that no model is read from."""
    names = {each.name for each in path.iterdir()}
    if "saved_model.pb" in names:
        return "a TensorFlow SavedModel: load it in Keras and save it as .keras or .weights.h5"
    return (
        "a folder without a model.safetensors or an index of several; name the file of weights "
        f"in it. It has {truncate(sorted(names)) if names else 'nothing'}"
    )
