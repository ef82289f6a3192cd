"""torch's own files, .pt and .pth: state dicts, in and out.

What a file claims is checked without torch (`pymobilenet.formats.torch_outline`), then torch reads
it with ``weights_only=True``, from the bytes that were checked: a mapped file (``mmap=True``) could
change in between, and is copied anyway. float16 and bfloat16 become float32, which holds all their
values. Metadata is ``_metadata["pymobilenet"]``, an attribute of the state dict that modules leave
alone: the file holds a plain state dict, for ``load_state_dict(torch.load(path), strict=True)``.
"""

from __future__ import annotations

import io
import math
import reprlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pymobilenet.errors import WeightsError
from pymobilenet.files import atomic_write
from pymobilenet.formats.torch_outline import outline
from pymobilenet.formats.torch_unpickler import Claim

WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "state_dict_ema", "model_ema")
"""Keys under which training scripts save a state dict beside other things: PyTorch Lightning and
timm (train.py: state_dict, state_dict_ema), torchvision (references/classification/train.py: model,
model_ema), PyTorch's own tutorials, kuangliu/pytorch-cifar (net)."""

PARALLEL = "module."
"""What `torch.nn.DataParallel` and `DistributedDataParallel` put before every name."""

_HALVES = (torch.float16, torch.bfloat16)


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a state dict, and the metadata `write` was given.

    A state dict in one of `WRAPPERS` is unwrapped, and a prefix `PARALLEL` that all names have is
    taken off. Arrays are the caller's own and C-contiguous, whatever the strides were.

    Raises:
        WeightsError: No file of torch's; a whole pickled model or anything else that is no state
            dict; tensors that claim more than the file holds, or that are not dense; more than one
            state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    content = path.read_bytes()
    try:
        claims = _state_dict(outline(content), lambda value: type(value) is Claim)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    _check_total(claims, len(content), path)
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        found = _state_dict(loaded, lambda value: isinstance(value, torch.Tensor))
    except Exception as error:  # a malformed file can raise nearly anything
        raise WeightsError(f"{path}: torch cannot read it: {reprlib.repr(str(error))}") from None
    if {name: _claim(tensor) for name, tensor in found.items()} != dict(claims):
        raise WeightsError(f"{path}: torch reads other tensors in it than it describes")
    prefix = PARALLEL if all(name.startswith(PARALLEL) for name in found) else ""
    tensors = {name.removeprefix(prefix): _array(tensor) for name, tensor in found.items()}
    return tensors, _metadata(found, path)


def write(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a state dict, atomically, its tensors in the order given."""
    weights = OrderedDict(
        (name, torch.from_numpy(np.array(tensor, tensor.dtype.newbyteorder("="), order="C")))
        for name, tensor in tensors.items()
    )
    weights._metadata = {"pymobilenet": dict(sorted(metadata.items()))}  # type: ignore[attr-defined]
    with atomic_write(path) as file:
        torch.save(weights, file)


def _state_dict(content: Any, is_tensor: Callable[[Any], bool]) -> dict[str, Any]:
    """The one dict of tensors in what a file holds, which may be the whole of it."""
    if not isinstance(content, dict):
        raise WeightsError(
            f"must hold a state dict, or a dict with one. Received: {_kind(content)}"
        )
    wrapped = [key for key in WRAPPERS if isinstance(content.get(key), dict)]
    if len(wrapped) > 1:
        raise WeightsError(f"holds more than one state dict: {', '.join(wrapped)}. Save one alone")
    found = content[wrapped[0]] if wrapped else content
    for name, value in found.items():
        if type(name) is not str or not is_tensor(value):
            raise WeightsError(
                f"a state dict must hold tensors by name; {reprlib.repr(name)} is "
                f"{_kind(value)}. Its names: {reprlib.repr(list(found))}. "
                f"State dicts are looked for under {', '.join(WRAPPERS)}"
            )
    if not found:
        raise WeightsError("the state dict is empty")
    return found


def _kind(value: Any) -> str:
    """What torch calls a value that `outline` stands in for."""
    name = type(value).__name__
    return {"Claim": "Tensor", "_Dict": "OrderedDict"}.get(name, name)


def _check_total(claims: Mapping[str, Claim], size: int, path: Path) -> None:
    """Tensors may share storage, but not so that they would be more than the file when copied."""
    total = sum(
        math.prod(claim.shape) * getattr(torch, claim.dtype).itemsize for claim in claims.values()
    )
    if total > size:
        raise WeightsError(f"{path}: its tensors share values: {total} bytes of them in {size}")


def _claim(tensor: torch.Tensor) -> Claim:
    return Claim(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _array(tensor: torch.Tensor) -> np.ndarray:
    values = tensor.detach()
    return np.array((values.float() if values.dtype in _HALVES else values).numpy(), order="C")


def _metadata(state_dict: dict[str, Any], path: Path) -> dict[str, str]:
    kept = getattr(state_dict, "_metadata", None)
    found = kept.get("pymobilenet", {}) if isinstance(kept, dict) else {}
    if not isinstance(found, dict) or not all(type(t) is str for kv in found.items() for t in kv):
        raise WeightsError(f"{path}: its metadata must be text by name")
    return dict(found)
