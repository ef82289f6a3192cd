"""PyTorch devices, mixed precision and TF32."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch.backends import cudnn

from pymobilenet.errors import BackendUnavailable, ConfigError

PRECISIONS = ("no", "bf16")


def find_device(name: str, dtype: np.dtype) -> torch.device:
    """Return an available device.

    Args:
        name: "cpu", "cuda", "cuda:<number>" or "mps".
        dtype: The model's dtype.

    Raises:
        ConfigError: Another name, or float64 on mps, which does not support it.
        BackendUnavailable: PyTorch does not see the device. The message lists those it sees.
    """
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise ConfigError(f"device must be cpu, cuda, cuda:<number> or mps. Received: {name!r}")
    if name == "mps" and dtype == np.float64:
        raise ConfigError(
            "mps does not support float64: build the model with dtype='float32', or with "
            f"device='cpu'. Received: {dtype}"
        )
    devices = available_devices()
    if name not in devices:
        raise BackendUnavailable(
            f"device must be one that torch {torch.__version__} sees: {', '.join(devices)}. "
            f"Received: {name!r}. Choose another device, or install a build of torch for it "
            "(https://pytorch.org)"
        )
    return torch.device(name)


def available_devices() -> list[str]:
    """Return the names of the devices that PyTorch sees."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{number}" for number in range(count))] if count else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def check_amp(amp: str, dtype: np.dtype) -> str:
    """Return `amp` if it is valid for a model of this dtype.

    Args:
        amp: One of `PRECISIONS`.
        dtype: The model's dtype.

    Raises:
        ConfigError: Another value, or mixed precision with float64.
    """
    if amp not in PRECISIONS:
        raise ConfigError(f"amp must be one of {', '.join(PRECISIONS)}. Received: {amp!r}")
    if amp != "no" and dtype != np.float32:
        raise ConfigError(f"amp={amp!r} requires a float32 model. Received: {dtype}")
    return amp


def autocast(device: torch.device, amp: str) -> AbstractContextManager:
    """Return a context in which PyTorch uses bfloat16 where it is safe, if `amp` is "bf16".

    Args:
        device: The model's device.
        amp: One of `PRECISIONS`.
    """
    return nullcontext() if amp == "no" else torch.autocast(device.type, torch.bfloat16)


def without_tf32(device: torch.device) -> AbstractContextManager:
    """Return a context in which float32 convolutions on CUDA are computed in float32.

    By default cuDNN uses TF32, which has 10 bits of mantissa.

    Args:
        device: The model's device.
    """
    if device.type != "cuda":
        return nullcontext()
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )
