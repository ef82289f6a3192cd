"""The training step and the prediction that a user of plain torch writes: what ours is held to."""

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
    """A step of Adam, channels_last, as a function."""
    module = MobileNet(config).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(module.parameters(), rate)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        scores = module(x.to(memory_format=torch.channels_last))
        loss = F.cross_entropy(scores, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def prediction(config: MobileNetConfig, images: np.ndarray) -> Callable[[], Any]:
    """A prediction, channels_last, as a function."""
    module = MobileNet(config).to(memory_format=torch.channels_last).eval()
    x = torch.from_numpy(images)

    @torch.no_grad()
    def run() -> np.ndarray:
        return module(x.to(memory_format=torch.channels_last)).numpy()

    return run
