"""The PyTorch backend: an ordinary `nn.Module`, and the `Model` around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from pymobilenet.backends.base import Backend
from pymobilenet.backends.torch.model import TorchModel
from pymobilenet.config import MobileNetConfig


class TorchBackend(Backend):
    """PyTorch, on CPU, CUDA or MPS.

    Options of `build` and `load`:

    - ``memory_format``: one of `model.MEMORY_FORMATS`. Default "auto".
    - ``compiled`` (bool): whether to train with `torch.compile`. Default False.
    - ``device``: "cpu", "cuda", "cuda:<number>" or "mps". Default "cpu".
    - ``amp``: "no", or "bf16" for mixed precision in `step`. Default "no".
    - ``distributed`` (bool): whether this process is one of several that torchrun has started and
      that train one model together. Default False.
    - ``sync_norm`` (bool): whether batch norms use the statistics of all processes' images. Default
      False. Requires ``distributed``.

    See docs/training.md.
    """

    name = "torch"
    options = ("memory_format", "compiled", "device", "amp", "distributed", "sync_norm")

    def versions(self) -> dict[str, str]:
        """Return the versions of PyTorch and NumPy."""
        return {"torch": torch.__version__, "numpy": np.__version__}

    def threads(self) -> dict[str, int]:
        """Return the number of PyTorch's threads."""
        return {"torch": torch.get_num_threads()}

    @contextmanager
    def few_threads(self) -> Iterator[None]:
        """Use one thread inside a ``with`` block; see `Backend.few_threads`."""
        count = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(count)

    def product(self, a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
        """Return a function that multiplies two square matrices in PyTorch.

        Args:
            a: (n, n), float32 or float64.
            b: The same shape and dtype.
        """
        x, y = torch.from_numpy(a), torch.from_numpy(b)
        return lambda: x @ y

    def _new(self, config: MobileNetConfig, dtype: np.dtype, **options: Any) -> TorchModel:
        return TorchModel(self, config, dtype, **options)


def status() -> str:
    """Return that the backend is available, and PyTorch's version."""
    return f"available (torch {torch.__version__})"


def load_backend() -> TorchBackend:
    """Return the backend."""
    return TorchBackend()
