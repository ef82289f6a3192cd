"""Conversion between NumPy arrays and PyTorch tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor


def to_tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """Return a tensor on `device`; on the CPU it shares the array's memory where possible.

    Read-only arrays and negative strides, which PyTorch does not support, are copied. (NumPy calls
    an axis of length 1 contiguous even if its stride is negative.)

    Args:
        array: Any shape and dtype that PyTorch supports.
        device: The device of the result.
    """
    is_shareable = array.flags.writeable and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if is_shareable else array.copy()).to(device)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Return a C-contiguous copy of a tensor.

    Args:
        tensor: On any device.
    """
    return np.array(tensor.detach().cpu().numpy(), order="C")


class TorchArrays(Mapping[str, np.ndarray]):
    """A read-only mapping of tensors by name, as NumPy arrays.

    A tensor is copied to the CPU when it is accessed. Nothing may modify the tensors afterwards.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name].cpu().numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
