"""Consecutive blocks of a model, as a function of arrays with gradients. Made by `Model.split`."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping

import numpy as np

from pymobilenet.architecture import Layer, layers
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import State

Pullback = Callable[[np.ndarray], tuple[np.ndarray, State]]
"""Maps the gradient of a part's output to that of its input and, by name, of its parameters."""


class Part(abc.ABC):
    """A part of a model, which shares the model's arrays.

    The input of a front is images (N, C, H, W), that of a back the maps (N, channels, H', W') that
    the front returns. The output of a back is logits (N, classes), also if the config has a
    softmax.
    """

    @abc.abstractmethod
    def __call__(
        self, x: np.ndarray, train: bool = False, masks: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Compute the output.

        Args:
            x: The input, of the model's dtype.
            train: Whether norms use the statistics of the batch, and update the running ones.
            masks: As in `Model.loss_and_grads`; of other layers than this part's they are ignored.
        """

    @abc.abstractmethod
    def pullback(
        self, x: np.ndarray, train: bool = False, masks: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Pullback]:
        """Compute the output, and return it with the function that gives gradients.

        Args:
            x: The input, of the model's dtype.
            train: As in a call.
            masks: As in a call.

        Returns:
            The output and its pullback, which may be called more than once.
        """

    @abc.abstractmethod
    def activations(
        self, x: np.ndarray, train: bool, masks: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, State]:
        """Return the output and every activation of this part; running statistics do not change.

        Args:
            x: The input, of the model's dtype.
            train: Whether norms use the statistics of the batch.
            masks: As in a call.

        Returns:
            The output, and name -> activation as in `Model.activations`.
        """


def block_count(config: MobileNetConfig) -> int:
    """Return the number of a model's blocks, without stem and head.

    Args:
        config: The architecture.
    """
    return len({layer.block for layer in layers(config) if layer.block.startswith("blocks.")})


def split_layers(config: MobileNetConfig, cut: int) -> tuple[list[Layer], list[Layer]]:
    """Return the layers in front of a cut and those behind it.

    Args:
        config: The architecture.
        cut: The number of blocks in front of the cut; the stem is in front of every cut.

    Raises:
        ConfigError: The model has fewer blocks.
    """
    count = block_count(config)
    if isinstance(cut, bool) or not isinstance(cut, int) or not 0 <= cut <= count:
        raise ConfigError(
            f"a cut must be the number of blocks in front of it, 0 to {count}. Received: {cut!r}"
        )
    behind = {f"blocks.{number}" for number in range(cut, count)} | {"head"}
    every = layers(config)
    return (
        [layer for layer in every if layer.block not in behind],
        [layer for layer in every if layer.block in behind],
    )
