"""A part of a MobileNet as an `nn.Module`, and as a function of arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from pymobilenet.backends.checks import DROPOUT
from pymobilenet.backends.part import Part, Pullback, split_layers
from pymobilenet.backends.torch.arrays import to_numpy, to_tensor
from pymobilenet.backends.torch.module import MobileNet, recorded_activations
from pymobilenet.config import MobileNetConfig
from pymobilenet.weights import State


class PartModule(nn.Module):
    """Consecutive blocks of a `MobileNet`, with their canonical names.

    Args:
        module: The whole net, whose modules are shared.
        first: The first block.
        last: The block after the last one.
        is_front: Whether this part has the stem; otherwise it has head and classifier.
    """

    def __init__(self, module: MobileNet, first: int, last: int, is_front: bool) -> None:
        super().__init__()
        if is_front:
            self.add_module("stem", module.stem)
        numbers = range(first, last)
        self.blocks = nn.Sequential(OrderedDict((str(k), module.blocks[k]) for k in numbers))
        if not is_front:
            for name in ("head", "pool", "dropout", "classifier"):
                if hasattr(module, name):
                    self.add_module(name, module.get_submodule(name))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output of the part.

        Args:
            x: Images (N, C, H, W), or the maps in front of the part.

        Returns:
            Maps (N, channels, H', W'), or logits (N, classes).
        """
        for part in self.children():
            x = part(x)
        return x

    @contextmanager
    def masked(self, masks: Mapping[str, np.ndarray]) -> Iterator[None]:
        """Use masks instead of the activations' comparisons and of random dropout.

        Args:
            masks: As in `Model.loss_and_grads`; those of other parts are ignored. Without factors
                for dropout no feature is dropped.
        """
        named = dict(self.named_modules())
        chosen = {name: mask for name, mask in masks.items() if name in named and name != DROPOUT}
        device = next(self.parameters()).device
        for name, mask in chosen.items():
            named[name].masks = to_tensor(mask, device)  # type: ignore[assignment]
        dropout = named.get("dropout")
        if dropout is not None:
            factors = masks.get(DROPOUT)
            one = torch.ones((), dtype=next(self.parameters()).dtype, device=device)
            dropout.factors = one if factors is None else to_tensor(factors, device)  # type: ignore[assignment]
        try:
            yield
        finally:
            for name in chosen:
                named[name].masks = None  # type: ignore[assignment]
            if dropout is not None:
                dropout.factors = None  # type: ignore[assignment]


class TorchPart(Part):
    """A `PartModule` as a function of NumPy arrays.

    Attributes:
        module (PartModule): The module, which shares the modules of the whole net.
    """

    def __init__(self, module: PartModule, has_softmax: bool) -> None:
        self.module, self._has_softmax = module, has_softmax

    @classmethod
    def split(
        cls, module: MobileNet, config: MobileNetConfig, cut: int
    ) -> tuple[TorchPart, TorchPart]:
        """Return front and back of a net.

        Args:
            module: The net.
            config: Its config.
            cut: The number of blocks in front of the cut.

        Raises:
            ConfigError: The net has fewer blocks.
        """
        split_layers(config, cut)
        front = PartModule(module, 0, cut, is_front=True)
        back = PartModule(module, cut, len(module.blocks), is_front=False)
        return cls(front, False), cls(back, config.softmax)

    def __call__(
        self, x: np.ndarray, train: bool = False, masks: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Compute the output; see `Part.__call__`."""
        with torch.no_grad(), self._mode(train), self.module.masked(masks or {}):
            return to_numpy(self.module(self._input(x)))

    def pullback(
        self, x: np.ndarray, train: bool = False, masks: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Pullback]:
        """Compute the output and its pullback; see `Part.pullback`."""
        images = self._input(x).requires_grad_()
        with torch.enable_grad(), self._mode(train), self.module.masked(masks or {}):
            output = self.module(images)
        names, parameters = zip(*self.module.named_parameters(), strict=True)

        def pull_back(gradient: np.ndarray) -> tuple[np.ndarray, State]:
            found = torch.autograd.grad(
                output,
                (images, *parameters),
                to_tensor(gradient, images.device),
                retain_graph=True,
            )
            of_input, *of_parameters = map(to_numpy, found)
            return of_input, dict(zip(names, of_parameters, strict=True))

        return to_numpy(output), pull_back

    @torch.no_grad()
    def activations(
        self, x: np.ndarray, train: bool, masks: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, State]:
        """Return output and activations; see `Part.activations`."""
        saved = [buffer.clone() for buffer in self.module.buffers()]
        with (
            self._mode(train),
            self.module.masked(masks),
            recorded_activations(self.module) as activations,
        ):
            output = self.module(self._input(x))
        for buffer, values in zip(self.module.buffers(), saved, strict=True):
            buffer.copy_(values)
        if self._has_softmax:
            activations["probabilities"] = to_numpy(output.softmax(1))
        return to_numpy(output), activations

    def _input(self, x: np.ndarray) -> Tensor:
        return to_tensor(x, next(self.module.parameters()).device)

    @contextmanager
    def _mode(self, train: bool) -> Iterator[None]:
        """Set the mode, and evaluation mode afterwards, which is that of the model's module."""
        self.module.train(train)
        try:
            yield
        finally:
            self.module.eval()
