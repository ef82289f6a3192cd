"""A PyTorch MobileNet as a `Model`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pymobilenet.backends import checks
from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.backends.checks import DROPOUT
from pymobilenet.backends.torch.arrays import TorchArrays, to_numpy, to_tensor
from pymobilenet.backends.torch.devices import autocast, check_amp, find_device, without_tf32
from pymobilenet.backends.torch.frozen import freeze
from pymobilenet.backends.torch.module import MobileNet, recorded_activations
from pymobilenet.backends.torch.optimizers import SLOTS, clip, new_optimizer
from pymobilenet.backends.torch.part import TorchPart
from pymobilenet.backends.torch.processes import Processes, check_started, join, synchronised
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import OPTIMIZER_STEP, State, state_shapes

if TYPE_CHECKING:
    from pymobilenet.backends.torch import TorchBackend

MEMORY_FORMATS = {
    "auto": torch.contiguous_format,
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}
"""``auto``: channels_last (faster) inside `fit`, else contiguous (more accurate)."""


class TorchModel(Model):
    """A MobileNet in PyTorch.

    With `compiled`, training passes are compiled by `torch.compile`, which requires a C++ compiler.
    With `amp`, `step` computes in mixed precision; all other methods compute in the model's dtype.
    With `distributed`, `step` averages gradients over all processes, and every process must call
    it; with `sync_norm`, its norms use the statistics of all processes' images. All other methods
    compute in this process alone.

    Attributes:
        module (MobileNet): The `nn.Module`, on `device`, in evaluation mode.
        device (torch.device): Where the model computes.
        torch_optimizer (torch.optim.Optimizer): The optimizer, after `set_optimizer`.
        averages (dict): Exponential moving averages of the parameters, by name.
    """

    def __init__(
        self,
        backend: TorchBackend,
        config: MobileNetConfig,
        dtype: np.dtype,
        memory_format: str = "auto",
        compiled: bool = False,
        device: str = "cpu",
        amp: str = "no",
        distributed: bool = False,
        sync_norm: bool = False,
    ) -> None:
        super().__init__(config, dtype)
        if memory_format not in MEMORY_FORMATS:
            raise ConfigError(
                f"memory_format must be one of {', '.join(MEMORY_FORMATS)}. "
                f"Received: {memory_format!r}"
            )
        self.backend = backend
        self.is_auto = memory_format == "auto"
        self.memory_format = MEMORY_FORMATS[memory_format]
        if sync_norm and not distributed:
            raise ConfigError(
                "sync_norm=True requires distributed=True. Received: distributed=False"
            )
        self.device = find_device(check_started(device) if distributed else device, dtype)
        self.amp = check_amp(amp, dtype)
        self.processes = join(self.device) if distributed else Processes()
        self.is_main_process = self.processes.rank == 0
        self.sync_norm = sync_norm
        self._torch_dtype = getattr(torch, dtype.name)
        module = MobileNet(config).to(self.device, self._torch_dtype)
        module.to(memory_format=self.memory_format)  # type: ignore[call-overload]  # not in the hints
        self.module = module.eval()
        self.training_module: nn.Module = self.module
        if compiled:
            self.training_module = cast("nn.Module", torch.compile(self.module))
        self._ddp_module: nn.Module | None = None
        self.torch_optimizer: torch.optim.Optimizer
        self.averages: dict[str, Tensor] = {}

    @property
    def compute_options(self) -> dict[str, str]:
        """Memory format, compilation, device, mixed precision and distribution."""
        is_channels_last = self.memory_format is torch.channels_last
        is_compiled = self.training_module is not self.module
        return {
            "memory_format": "channels_last" if is_channels_last else "contiguous",
            "compiled": "yes" if is_compiled else "no",
            "device": str(self.device),
            "amp": self.amp,
            "processes": str(self.processes.count),
            "sync_norm": "yes" if self.sync_norm else "no",
        }

    def get_state(self) -> State:
        """Return a copy of the state; see `Model.get_state`."""
        tensors = self.module.state_dict()
        state = {name: to_numpy(tensors[name]) for name in state_shapes(self.config)}
        if self.optimizer is None or not self.slots:
            return state
        for name, average in self.averages.items():
            state[f"optimizer.ema.{name}"] = to_numpy(average)
        for name, parameter in self.module.named_parameters():
            moments = self.torch_optimizer.state.get(parameter, {})
            for slot in self.optimizer.moments:
                moment = moments.get(SLOTS[slot])
                state[f"optimizer.{slot}.{name}"] = (
                    np.full(parameter.shape, self.optimizer.start_of(slot), self.dtype)
                    if moment is None
                    else to_numpy(moment)
                )
        state[OPTIMIZER_STEP] = np.array(int(moments.get("step", 0)), np.int64)
        return state

    @torch.no_grad()
    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        for name, tensor in self.module.state_dict().items():
            tensor.copy_(self._tensor(state[name]))
        if OPTIMIZER_STEP not in state:
            return
        assert self.optimizer is not None
        for name, average in self.averages.items():
            average.copy_(self._tensor(state[f"optimizer.ema.{name}"]))
        for name, parameter in self.module.named_parameters():
            moments = self.torch_optimizer.state[parameter]
            for slot in self.optimizer.moments:
                moment = self._tensor(state[f"optimizer.{slot}.{name}"]).clone()
                moments[SLOTS[slot]] = moment.to(memory_format=self._format_of(parameter))
            moments["step"] = torch.tensor(float(state[OPTIMIZER_STEP]))

    def _reset_optimizer(self, config: TrainConfig) -> None:
        self.torch_optimizer = new_optimizer(config, self.module)
        averaged = self.module.named_parameters() if config.ema_decay > 0 else ()
        self.averages = {name: parameter.detach().clone() for name, parameter in averaged}

    @torch.no_grad()
    def _predict(self, images: np.ndarray) -> np.ndarray:
        self.module.eval()
        with without_tf32(self.device):
            logits = self.module(self._input(images))
        return to_numpy(logits.softmax(1) if self.config.softmax else logits)

    def _freeze(self) -> Callable[[np.ndarray], np.ndarray]:
        frozen, device = freeze(self.config, self.module.state_dict()), self.device

        @torch.no_grad()
        def predict(images: np.ndarray) -> np.ndarray:
            with without_tf32(device):
                logits = frozen(to_tensor(images, device))
            return to_numpy(logits.softmax(1) if self.config.softmax else logits)

        return predict

    def split(self, cut: int) -> tuple[TorchPart, TorchPart]:
        """Return front and back as functions with gradients; see `Model.split`."""
        return TorchPart.split(self.module, self.config, cut)

    def any_rank(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process; see `Model.any_rank`."""
        return self.processes.any_rank(flag, self.device)

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Use channels_last if the memory format is "auto"; see `Model.fitting`."""
        memory_format = self.memory_format
        self._set_memory_format(torch.channels_last if self.is_auto else memory_format)
        try:
            yield
        finally:
            self._set_memory_format(memory_format)

    def _set_memory_format(self, memory_format: torch.memory_format) -> None:
        """Convert the weights; the moments follow in the next step."""
        self.memory_format = memory_format
        self.module.to(memory_format=memory_format)  # type: ignore[call-overload]  # not in the hints
        self._ddp_module = None  # its buckets depend on the memory format

    @torch.no_grad()
    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        with (
            self._training(masks, restore_statistics=True),
            without_tf32(self.device),
            recorded_activations(self.module) as activations,
        ):
            self.module.train(train)
            logits = self.module(self._input(images))
        if self.config.softmax:
            activations["probabilities"] = to_numpy(logits.softmax(1))
        return activations

    def _loss_and_grads(
        self, images: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, TorchArrays]:
        self.module.zero_grad(set_to_none=True)
        with self._training(masks, restore_statistics=True):
            loss = self._backward(self.training_module, images, labels, "no", count=1)
        grads = self._grads()
        self.module.zero_grad(set_to_none=True)
        return loss.item(), grads

    def _step(
        self, images: np.ndarray, labels: np.ndarray, rate: float, masks: dict[str, np.ndarray]
    ) -> tuple[float, TorchArrays]:
        assert self.optimizer is not None
        count, batch = self.optimizer.accumulate, Batch(images, labels, masks)
        shards = [self.processes.shard(batch.micro_batch(number, count)) for number in range(count)]
        if not self.sync_norm:
            checks.trainable(self.config, shards[0].images)
        if self._ddp_module is None:
            self._ddp_module = self.processes.ddp(self.training_module, self.device)
        self.module.zero_grad(set_to_none=True)
        losses = [self._accumulate(shard, count, shard is shards[-1]) for shard in shards]
        loss, grads = torch.stack(losses).sum(), self._grads()
        self._update(rate)
        self.module.zero_grad(set_to_none=True)
        if not self.sync_norm:
            self.processes.broadcast(list(self.module.buffers()))
        return self.processes.mean(loss).item(), grads

    def _accumulate(self, shard: Batch, count: int, is_last: bool) -> Tensor:
        """Add the gradients of one of `count` micro-batches; the last averages over processes."""
        assert self._ddp_module is not None
        norms = synchronised(self.module, self.processes) if self.sync_norm else nullcontext()
        no_sync = nullcontext() if is_last else self.processes.no_sync(self._ddp_module)
        with self._training(shard.masks, restore_statistics=False), norms, no_sync:
            return self._backward(self._ddp_module, shard.images, shard.labels, self.amp, count)

    @torch.no_grad()
    def _update(self, rate: float) -> None:
        """Update parameters, moments and averages from the parameters' gradients."""
        assert self.optimizer is not None
        for group in self.torch_optimizer.param_groups:
            group["lr"] = rate
        if self.optimizer.clip_norm > 0:
            clip(self.module.parameters(), self.optimizer.clip_norm)
        self.torch_optimizer.step()
        if self.averages:
            parameters: list[Tensor] = list(self.module.parameters())
            weight = 1 - self.optimizer.ema_decay
            torch._foreach_lerp_(list(self.averages.values()), parameters, weight)

    def _backward(
        self, module: nn.Module, images: np.ndarray, labels: np.ndarray, amp: str, count: int
    ) -> Tensor:
        """Compute the loss, divided by `count`, and add its gradients to the parameters'."""
        with without_tf32(self.device):
            with autocast(self.device, amp):
                logits = module(self._input(images))
            loss = F.cross_entropy(logits.to(self._torch_dtype), self._tensor(labels)) / count
            loss.backward()
        return loss.detach()

    def _grads(self) -> TorchArrays:
        """Return the parameters' gradients without a copy.

        The caller must then set each parameter's ``grad`` to None, or a later backward pass would
        add to the returned arrays.
        """
        return TorchArrays(
            {
                name: cast("Tensor", parameter.grad)
                for name, parameter in self.module.named_parameters()
            }
        )

    @contextmanager
    def _training(self, masks: dict[str, np.ndarray], restore_statistics: bool) -> Iterator[None]:
        """Set training mode and `masks`; afterwards restore evaluation mode and remove the masks.

        With `restore_statistics`, the running statistics are restored, too.
        """
        saved = [buffer.clone() for buffer in self.module.buffers()] if restore_statistics else []
        for name, mask in masks.items():
            if name != DROPOUT:
                self.module.get_submodule(name).masks = self._tensor(mask)
        factors = masks.get(DROPOUT)
        one = torch.ones((), dtype=self._torch_dtype, device=self.device)
        self.module.dropout.factors = one if factors is None else self._tensor(factors)
        self.module.train()
        try:
            yield
        finally:
            self.module.eval()
            self.module.dropout.factors = None
            for name in masks.keys() - {DROPOUT}:
                self.module.get_submodule(name).masks = None  # type: ignore[assignment]
            for buffer, values in zip(self.module.buffers(), saved, strict=False):
                buffer.copy_(values)

    def _input(self, images: np.ndarray) -> Tensor:
        return self._tensor(images).to(memory_format=self.memory_format)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return to_tensor(array, self.device)

    def _format_of(self, parameter: Tensor) -> torch.memory_format:
        return self.memory_format if parameter.ndim == 4 else torch.contiguous_format
