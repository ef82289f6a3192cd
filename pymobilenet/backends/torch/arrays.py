"""NumPy arrays as torch's tensors, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor


def to_tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """On the CPU a view of the array; a copy where it is read-only or a stride is negative (which
    NumPy calls contiguous along an axis of one): torch knows neither."""
    shareable = array.flags.writeable and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if shareable else array.copy()).to(device)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A contiguous copy, the caller's own."""
    return np.array(tensor.detach().cpu().numpy(), order="C")


class TorchArrays(Mapping[str, np.ndarray]):
    """Tensors by name that nothing changes any more; each crosses to the CPU when asked for."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name].cpu().numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
