"""MobileNet in PyTorch: the `nn.Module`, the model around it, and torch's own files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pymobilenet.backends.base import Backend
from pymobilenet.backends.torch.model import TorchModel
from pymobilenet.config import MobileNetConfig


class TorchBackend(Backend):
    """Options of `build` and `load`: ``memory_format``, one of `model.MEMORY_FORMATS`; ``compiled``
    (bool): train what `torch.compile` makes of the module; ``device`` and ``amp``, see `devices`;
    ``distributed`` and ``sync_norm`` (bool), see `processes` and docs/training.md.
    """

    name = "torch"
    options = ("memory_format", "compiled", "device", "amp", "distributed", "sync_norm")

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__, "numpy": np.__version__}

    def threads(self) -> dict[str, int]:
        return {"torch": torch.get_num_threads()}

    def product(self, a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
        x, y = torch.from_numpy(a), torch.from_numpy(b)
        return lambda: x @ y

    def _new(self, config: MobileNetConfig, dtype: np.dtype, **options: Any) -> TorchModel:
        return TorchModel(self, config, dtype, **options)


def status() -> str:
    return f"available (torch {torch.__version__})"


def load_backend() -> TorchBackend:
    return TorchBackend()
