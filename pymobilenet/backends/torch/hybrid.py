"""A MobileNet whose blocks run in two frameworks, as one `nn.Module` and as a `Model`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pymobilenet.backends.base import Backend, Model
from pymobilenet.backends.julia.part import JuliaPart
from pymobilenet.backends.torch.julia_module import JuliaModule
from pymobilenet.backends.torch.model import TorchModel
from pymobilenet.backends.torch.part import TorchPart
from pymobilenet.backends.torch.processes import Processes
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import State


class Hybrid(nn.Module):
    """The front of one model and the back of another, with the canonical names of a MobileNet.

    It starts in evaluation mode. Its parameters are the memory of the two models, so that training
    it trains them. Made by `hybrid`. In torch's ``channels_last`` format, to which
    ``.to(memory_format=torch.channels_last)`` changes it, no map is copied between the frameworks.

    Args:
        parts: Front and back.

    Attributes:
        memory_format (torch.memory_format): Of the maps in torch.
    """

    def __init__(self, parts: tuple[TorchPart | JuliaPart, TorchPart | JuliaPart]) -> None:
        super().__init__()
        self.parts, self.memory_format = parts, torch.contiguous_format
        self._modules_of_parts: tuple[Any, ...] = tuple(_module_of(part) for part in parts)
        self.blocks = nn.Module()
        for module in self._modules_of_parts:
            for name, child in module.named_children():
                if name == "blocks":
                    for number, block in child.named_children():
                        self.blocks.add_module(number, block)
                else:
                    self.add_module(name, child)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits.

        Args:
            x: Images (N, C, H, W), normalised.

        Returns:
            Logits (N, classes).
        """
        for part, module in zip(self.parts, self._modules_of_parts, strict=True):
            if isinstance(part, JuliaPart) and part.enters_channels_last:
                x = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
            x = module(x)
            if isinstance(part, JuliaPart) and part.leaves_channels_last:
                x = x.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)
        return x

    def train(self, mode: bool = True) -> Hybrid:
        """Set training mode; see `nn.Module.train`.

        Args:
            mode: Whether to train.
        """
        for module in self._modules_of_parts:
            module.train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Hybrid:
        """Convert a memory format; the dtype and the device are those of the two models."""
        probe = fn(torch.empty(2, 2, 2, 2, dtype=next(self.parameters()).dtype))
        if probe.dtype != next(self.parameters()).dtype or probe.device.type != "cpu":
            raise RuntimeError(
                "a hybrid has the dtype and the memory of its two models: build those in another "
                f"dtype. Received: {probe.dtype} on {probe.device}"
            )
        is_channels_last = probe.is_contiguous(memory_format=torch.channels_last)
        self.memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
        for module in self._modules_of_parts:
            if not isinstance(module, JuliaModule):
                module._apply(fn, recurse)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Hybrid:
        raise TypeError("a hybrid shares the memory of its two models: copy those with replica()")

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a hybrid shares the memory of its two models: save its state_dict()")

    @contextmanager
    def masked(self, masks: Mapping[str, np.ndarray]) -> Iterator[None]:
        """Use masks in both parts; see `PartModule.masked`.

        Args:
            masks: As in `Model.loss_and_grads`.
        """
        with ExitStack() as stack:
            for part, module in zip(self.parts, self._modules_of_parts, strict=True):
                chosen = part.chosen(masks) if isinstance(part, JuliaPart) else masks
                stack.enter_context(module.masked(chosen))
            yield


def hybrid(first: Model, second: Model, cut: int) -> Hybrid:
    """Join the front of one model and the back of another.

    Args:
        first: Runs the stem and the first `cut` blocks.
        second: Runs the rest.
        cut: The number of blocks in front of the cut.

    Returns:
        A module of torch with canonical names, on the memory of the two models.

    Raises:
        ConfigError: The models have different configs or dtypes, fewer blocks, or are not of torch
            or Julia on the CPU.
    """
    if first.config != second.config or first.dtype != second.dtype:
        raise ConfigError(
            "the two models of a hybrid must have one config and one dtype. Received: "
            f"{first.config.to_json()} in {first.dtype} and {second.config.to_json()} in "
            f"{second.dtype}"
        )
    parts = first.split(cut)[0], second.split(cut)[1]
    for part, model in zip(parts, (first, second), strict=True):
        device = getattr(model, "device", "cpu")
        if not isinstance(part, TorchPart | JuliaPart) or str(device) != "cpu":
            raise ConfigError(
                "a hybrid joins models of torch and Julia on the CPU. Received: a model of "
                f"{model.backend.name}"
            )
    return Hybrid(cast("tuple[TorchPart | JuliaPart, TorchPart | JuliaPart]", parts))


class HybridModel(TorchModel):
    """A hybrid as a `Model`, trained by torch's optimizers.

    Args:
        backend: The backend that builds it.
        first: The model whose front runs.
        second: The model whose back runs.
        cut: The number of blocks in front of the cut.
    """

    def __init__(self, backend: HybridBackend, first: Model, second: Model, cut: int) -> None:
        Model.__init__(self, first.config, first.dtype)
        self.backend = backend  # type: ignore[assignment]  # of another kind than a TorchModel's
        self.models = first, second
        self.is_auto, self.memory_format = False, torch.contiguous_format
        self.device, self.amp, self.sync_norm = torch.device("cpu"), "no", False
        self.processes = Processes()
        self._torch_dtype = getattr(torch, first.dtype.name)
        joined = hybrid(first, second, cut)
        self.module = cast("Any", joined)
        self.training_module: nn.Module = joined
        self._ddp_module: nn.Module | None = None
        self.averages = {}

    def _freeze(self) -> Callable[[np.ndarray], np.ndarray]:
        return self.replica()._predict

    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        activations: State = {}
        x = images
        for part in cast("Any", self.module).parts:
            x, own = part.activations(x, train, masks)
            activations |= own
        return activations

    @contextmanager
    def _training(self, masks: dict[str, np.ndarray], restore_statistics: bool) -> Iterator[None]:
        saved = [buffer.clone() for buffer in self.module.buffers()] if restore_statistics else []
        self.module.train()
        try:
            with cast("Any", self.module).masked(masks):
                yield
        finally:
            self.module.eval()
            with torch.no_grad():
                for buffer, values in zip(self.module.buffers(), saved, strict=False):
                    buffer.copy_(values)


class HybridBackend(Backend):
    """Builds hybrids of two backends' models.

    Args:
        first: Runs the stem and the first `cut` blocks.
        second: Runs the rest.
        cut: The number of blocks in front of the cut.
    """

    def __init__(self, first: Backend, second: Backend, cut: int) -> None:
        self.pair, self.cut = (first, second), cut
        self.name = f"{first.name}|{second.name}@{cut}"

    def versions(self) -> dict[str, str]:
        """Return the versions of both backends' libraries."""
        return self.pair[0].versions() | self.pair[1].versions()

    def _new(self, config: MobileNetConfig, dtype: np.dtype, **options: Any) -> HybridModel:
        first, second = (each.build(config, 0, dtype, **options) for each in self.pair)
        return HybridModel(self, first, second, self.cut)


def _module_of(part: TorchPart | JuliaPart) -> Any:
    return part.module if isinstance(part, TorchPart) else JuliaModule(part.layer)
