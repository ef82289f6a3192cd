"""MobileNet in PyTorch: the `nn.Module`, the model around it, and torch's own files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pymobilenet.backends.base import Backend
from pymobilenet.backends.torch.model import TorchModel
from pymobilenet.config import MobileNetConfig


class TorchBackend(Backend):
    """Options of `build` and `load`: ``memory_format``, one of `model.MEMORY_FORMATS`."""

    name = "torch"

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__, "numpy": np.__version__}

    def threads(self) -> dict[str, int]:
        return {"torch": torch.get_num_threads()}

    def _new(self, config: MobileNetConfig, dtype: np.dtype, **options: Any) -> TorchModel:
        return TorchModel(self, config, dtype, **options)


def status() -> str:
    return f"available (torch {torch.__version__})"


def load_backend() -> TorchBackend:
    return TorchBackend()
