"""The training step and the prediction that a user of plain torch writes: what ours is held to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pymobilenet.backends.torch.module import MobileNet
from pymobilenet.config import MobileNetConfig

Make = Callable[[MobileNetConfig, np.ndarray, np.ndarray], Callable[[], Any]]


def by_hand(rate: float) -> tuple[Make, Make]:
    """A step of Adam and a prediction, both channels_last: from config, images and labels."""

    def module_of(config: MobileNetConfig) -> MobileNet:
        return MobileNet(config).to(memory_format=torch.channels_last)

    def train(config: MobileNetConfig, images: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
        module = module_of(config).train()
        updater = torch.optim.Adam(module.parameters(), rate)
        x, y = torch.from_numpy(images), torch.from_numpy(labels)

        def step() -> float:
            updater.zero_grad(set_to_none=True)
            scores = module(x.to(memory_format=torch.channels_last))
            loss = F.cross_entropy(scores, y)
            loss.backward()
            updater.step()
            return loss.item()

        return step

    def predict(config: MobileNetConfig, images: np.ndarray, _: np.ndarray) -> Callable[[], Any]:
        module, x = module_of(config).eval(), torch.from_numpy(images)

        @torch.no_grad()
        def run() -> np.ndarray:
            return module(x.to(memory_format=torch.channels_last)).numpy()

        return run

    return train, predict
