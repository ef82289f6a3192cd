"""The benchmarks' baseline: a training step and a prediction in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pymobilenet.backends.torch.module import MobileNet
from pymobilenet.config import MobileNetConfig


def training_step(
    config: MobileNetConfig, images: np.ndarray, labels: np.ndarray, rate: float
) -> Callable[[], Any]:
    """Return a function that takes one training step with Adam, in channels_last format.

    Args:
        config: The architecture.
        images: (N, C, H, W), float32.
        labels: (N,), int64.
        rate: The learning rate.

    Returns:
        A function without arguments that returns the loss.
    """
    module = MobileNet(config).train()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the hints
    optimizer = torch.optim.Adam(module.parameters(), rate)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        logits = module(x.to(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def prediction(config: MobileNetConfig, images: np.ndarray) -> Callable[[], Any]:
    """Return a function that predicts in evaluation mode, in channels_last format.

    Args:
        config: The architecture.
        images: (N, C, H, W), float32.

    Returns:
        A function without arguments that returns logits (N, classes).
    """
    module = MobileNet(config).eval()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the hints
    x = torch.from_numpy(images)

    @torch.no_grad()
    def predict() -> np.ndarray:
        return module(x.to(memory_format=torch.channels_last)).numpy()

    return predict
