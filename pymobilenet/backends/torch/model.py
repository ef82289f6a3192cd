"""A PyTorch MobileNet behind the protocol of `backends.base`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pymobilenet.backends import checks
from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.backends.checks import DROPOUT
from pymobilenet.backends.torch.arrays import TorchArrays, to_numpy, to_tensor
from pymobilenet.backends.torch.devices import check_amp, find_device, mixed, without_tf32
from pymobilenet.backends.torch.frozen import freeze
from pymobilenet.backends.torch.module import Activation, Add, MobileNet, Norm, Pool
from pymobilenet.backends.torch.optimizers import SLOTS, clip, new_optimizer
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
"""``auto``: contiguous, which is the more exact, but channels_last, which is faster, in `fit`."""


class TorchModel(Model):
    """A `MobileNet` module behind the protocol; `module` is the module itself, on `device`.

    With `compiled`, what it computes in training is compiled by torch, which needs a C++ compiler.
    With `amp` "bf16", steps compute in mixed precision; everything else is in the model's dtype.
    With `distributed`, a step is that of all processes together, and all have to take it; all else
    each computes by itself. With `sync_norm` a step's norms see the images of all of them.
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
                "sync_norm belongs to distributed=True alone. Received: sync_norm=True"
            )
        self.device = find_device(check_started(device) if distributed else device, dtype)
        self.amp = check_amp(amp, dtype)
        self.processes = join(self.device) if distributed else Processes()
        self.is_main_process = self.processes.rank == 0
        self.sync_norm = sync_norm
        self._number = getattr(torch, dtype.name)
        module = MobileNet(config).to(self.device, self._number)
        self.module = module.to(memory_format=self.memory_format).eval()
        self.trained = torch.compile(self.module) if compiled else self.module
        self._together: nn.Module | None = None
        self.torch_optimizer: torch.optim.Optimizer
        self.averages: dict[str, Tensor] = {}

    @property
    def compute_options(self) -> dict[str, str]:
        last = self.memory_format is torch.channels_last
        compiled = self.trained is not self.module
        return {
            "memory_format": "channels_last" if last else "contiguous",
            "compiled": "yes" if compiled else "no",
            "device": str(self.device),
            "amp": self.amp,
            "processes": str(self.processes.count),
            "sync_norm": "yes" if self.sync_norm else "no",
        }

    def get_state(self) -> State:
        tensors = self.module.state_dict()
        state = {name: to_numpy(tensors[name]) for name in state_shapes(self.config)}
        if self.optimizer is None or not self.slots:
            return state
        for name, average in self.averages.items():
            state[f"optimizer.ema.{name}"] = to_numpy(average)
        for name, parameter in self.module.named_parameters():
            kept = self.torch_optimizer.state.get(parameter, {})
            for slot in self.optimizer.moments:
                moment = kept.get(SLOTS[slot])
                state[f"optimizer.{slot}.{name}"] = (
                    np.full(parameter.shape, self.optimizer.start_of(slot), self.dtype)
                    if moment is None
                    else to_numpy(moment)
                )
        state[OPTIMIZER_STEP] = np.array(int(kept.get("step", 0)), np.int64)
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
            kept = self.torch_optimizer.state[parameter]
            for slot in self.optimizer.moments:
                moment = self._tensor(state[f"optimizer.{slot}.{name}"]).clone()
                kept[SLOTS[slot]] = moment.to(memory_format=self._format_of(parameter))
            kept["step"] = torch.tensor(float(state[OPTIMIZER_STEP]))

    def _reset_optimizer(self, config: TrainConfig) -> None:
        self.torch_optimizer = new_optimizer(config, self.module)
        averaged = self.module.named_parameters() if config.ema_decay > 0 else ()
        self.averages = {name: parameter.detach().clone() for name, parameter in averaged}

    @torch.no_grad()
    def _predict(self, images: np.ndarray) -> np.ndarray:
        self.module.eval()
        with without_tf32(self.device):
            scores = self.module(self._input(images))
        return to_numpy(scores.softmax(1) if self.config.softmax else scores)

    def _freeze(self) -> Callable[[np.ndarray], np.ndarray]:
        run, device = freeze(self.config, self.module.state_dict()), self.device

        @torch.no_grad()
        def frozen(images: np.ndarray) -> np.ndarray:
            with without_tf32(device):
                scores = run(to_tensor(images, device))
            return to_numpy(scores.softmax(1) if self.config.softmax else scores)

        return frozen

    def any_rank(self, found: bool) -> bool:
        return self.processes.any_rank(found, self.device)

    @contextmanager
    def fitting(self) -> Iterator[None]:
        kept = self.memory_format
        self._lay_out(torch.channels_last if self.is_auto else kept)
        try:
            yield
        finally:
            self._lay_out(kept)

    def _lay_out(self, memory_format: torch.memory_format) -> None:
        """Move weights, and with the next step moments, to another memory format."""
        self.memory_format = memory_format
        self.module.to(memory_format=memory_format)
        self._together = None  # it is made for one layout

    @torch.no_grad()
    def _activations(self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]) -> State:
        found: State = {}

        def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            return lambda _module, _input, output: found.__setitem__(name, to_numpy(output))

        hooks = [
            module.register_forward_hook(keep("logits" if name == "classifier" else name))
            for name, module in self.module.named_modules()
            if isinstance(module, (nn.Conv2d, Norm, Activation, Add, Pool, nn.Linear))
        ]
        try:
            with self._training(masks, keep_statistics=True), without_tf32(self.device):
                self.module.train(train)
                scores = self.module(self._input(images))
        finally:
            for hook in hooks:
                hook.remove()
        if self.config.softmax:
            found["probabilities"] = to_numpy(scores.softmax(1))
        return found

    def _loss_and_grads(
        self, images: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, TorchArrays]:
        self.module.zero_grad(set_to_none=True)
        with self._training(masks, keep_statistics=True):
            loss = self._backward(self.trained, images, labels, "no", count=1)
        grads = self._grads()
        self.module.zero_grad(set_to_none=True)
        return loss.item(), grads

    def _step(
        self, images: np.ndarray, labels: np.ndarray, rate: float, masks: dict[str, np.ndarray]
    ) -> tuple[float, TorchArrays]:
        assert self.optimizer is not None
        count, batch = self.optimizer.accumulate, Batch(images, labels, masks)
        shares = [self.processes.shard(batch.micro_batch(number, count)) for number in range(count)]
        if not self.sync_norm:
            checks.trainable(self.config, shares[0].images)
        if self._together is None:
            self._together = self.processes.ddp(self.trained, self.device)
        self.module.zero_grad(set_to_none=True)
        losses = [self._add_part(share, count, share is shares[-1]) for share in shares]
        loss, grads = torch.stack(losses).sum(), self._grads()
        self._update(rate)
        self.module.zero_grad(set_to_none=True)
        if not self.sync_norm:
            self.processes.broadcast(list(self.module.buffers()))
        return self.processes.mean(loss).item(), grads

    def _add_part(self, share: Batch, count: int, is_last: bool) -> Tensor:
        """Add the gradients of one of a step's `count` parts; after the last all processes meet."""
        assert self._together is not None
        norms = synchronised(self.module, self.processes) if self.sync_norm else nullcontext()
        no_sync = nullcontext() if is_last else self.processes.no_sync(self._together)
        with self._training(share.masks, keep_statistics=False), norms, no_sync:
            return self._backward(self._together, share.images, share.labels, self.amp, count)

    @torch.no_grad()
    def _update(self, rate: float) -> None:
        """Move parameters, moments and averages by the parameters' gradients."""
        assert self.optimizer is not None
        for group in self.torch_optimizer.param_groups:
            group["lr"] = rate
        if self.optimizer.clip_norm > 0:
            clip(self.module.parameters(), self.optimizer.clip_norm)
        self.torch_optimizer.step()
        if self.averages:
            own = list(self.module.parameters())
            torch._foreach_lerp_(list(self.averages.values()), own, 1 - self.optimizer.ema_decay)

    def _backward(
        self, module: nn.Module, images: np.ndarray, labels: np.ndarray, amp: str, count: int
    ) -> Tensor:
        """The loss over `count`, whose gradients are added to those there are."""
        with without_tf32(self.device):
            with mixed(self.device, amp):
                scores = module(self._input(images))
            loss = F.cross_entropy(scores.to(self._number), self._tensor(labels)) / count
            loss.backward()
        return loss.detach()

    def _grads(self) -> TorchArrays:
        """They share memory with each parameter's `grad`, which the caller has to let go of, lest
        a backward pass of the user's own adds to what was returned.
        """
        return TorchArrays(
            {name: parameter.grad for name, parameter in self.module.named_parameters()}
        )

    @contextmanager
    def _training(self, masks: dict[str, np.ndarray], keep_statistics: bool) -> Iterator[None]:
        """Training mode with `masks` in place; afterwards evaluation mode and no masks.

        With `keep_statistics` the running statistics are put back as they were.
        """
        kept = [buffer.clone() for buffer in self.module.buffers()] if keep_statistics else []
        for name, mask in masks.items():
            if name != DROPOUT:
                self.module.get_submodule(name).masks = self._tensor(mask)
        factors = masks.get(DROPOUT)
        one = torch.ones((), dtype=self._number, device=self.device)
        self.module.dropout.factors = one if factors is None else self._tensor(factors)
        self.module.train()
        try:
            yield
        finally:
            self.module.eval()
            self.module.dropout.factors = None
            for name in masks.keys() - {DROPOUT}:
                self.module.get_submodule(name).masks = None
            for buffer, values in zip(self.module.buffers(), kept, strict=False):
                buffer.copy_(values)

    def _input(self, images: np.ndarray) -> Tensor:
        return self._tensor(images).to(memory_format=self.memory_format)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return to_tensor(array, self.device)

    def _format_of(self, parameter: Tensor) -> torch.memory_format:
        return self.memory_format if parameter.ndim == 4 else torch.contiguous_format
