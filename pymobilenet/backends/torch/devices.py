"""Where a model computes, and in how many bits: torch's devices, mixed precision, TF32."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch.backends import cudnn

from pymobilenet.errors import BackendUnavailable, ConfigError

PRECISIONS = ("no", "bf16")


def find_device(name: str, dtype: np.dtype) -> torch.device:
    """The device called ``cpu``, ``cuda``, ``cuda:<number>`` or ``mps``.

    Raises:
        ConfigError: Another name, or float64 on mps, which has none.
        BackendUnavailable: torch sees no such device here; the message says which it sees.
    """
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise ConfigError(f"device must be cpu, cuda, cuda:<number> or mps. Received: {name!r}")
    if name == "mps" and dtype == np.float64:
        raise ConfigError(
            "mps has no float64: build the model with dtype='float32', or with device='cpu'. "
            f"Received: {dtype}"
        )
    if name not in (seen := present()):
        raise BackendUnavailable(
            f"torch {torch.__version__} sees no device {name!r} here, but {', '.join(seen)}: "
            "choose one of these, or install a torch made for the device (https://pytorch.org)"
        )
    return torch.device(name)


def present() -> list[str]:
    """The names of the devices that torch sees on this machine."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{number}" for number in range(count))] if count else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def check_amp(amp: str, dtype: np.dtype) -> str:
    """`amp`, one of `PRECISIONS`, unless it makes no sense for a model of this dtype."""
    if amp not in PRECISIONS:
        raise ConfigError(f"amp must be one of {', '.join(PRECISIONS)}. Received: {amp!r}")
    if amp != "no" and dtype != np.float32:
        raise ConfigError(f"amp belongs to float32 models alone. Received: {amp} with {dtype}")
    return amp


def mixed(device: torch.device, amp: str) -> AbstractContextManager:
    """Inside, torch takes bfloat16 where it knows that to be safe, if `amp` says so."""
    return nullcontext() if amp == "no" else torch.autocast(device.type, torch.bfloat16)


def without_tf32(device: torch.device) -> AbstractContextManager:
    """Inside, cuDNN's convolutions of float32 are of float32: by default they are of TF32, which
    has 10 bits of mantissa."""
    if device.type != "cuda":
        return nullcontext()
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )
