"""Several processes that train one model together, as torchrun starts them.

Each of them makes the same calls with the same arguments: whole batches, of which it takes its own
share. torch's `DistributedDataParallel` averages the gradients.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pymobilenet.backends.batch import Batch
from pymobilenet.backends.torch.module import Norm
from pymobilenet.errors import ConfigError

NEEDED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun puts into the environment of every process it starts."""


class _Mean(torch.autograd.Function):
    """The mean over all processes, forward of a tensor and backward of its gradient."""

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.div_(dist.get_world_size())

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return _Mean.apply(gradient)


@dataclass(frozen=True)
class Processes:
    """This process is number `rank` of `count`."""

    rank: int = 0
    count: int = 1

    def shard(self, batch: Batch) -> Batch:
        """This process' images of a batch.

        Raises:
            ConfigError: The batch does not go into equal shares.
        """
        if len(batch.images) % self.count:
            raise ConfigError(
                f"each of {self.count} processes takes an equal share of what is computed at once: "
                f"choose batch_size so. Received: {len(batch.images)} images"
            )
        return batch.micro_batch(self.rank, self.count)

    def mean(self, x: Tensor) -> Tensor:
        """The mean of `x` over all processes, through which gradients go back."""
        return x if self.count == 1 else _Mean.apply(x)

    def any_rank(self, found: bool, device: torch.device) -> bool:
        """Whether any of the processes says so; all have to ask."""
        if self.count == 1:
            return found
        flag = torch.tensor(int(found), device=device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def ddp(self, module: nn.Module, device: torch.device) -> nn.Module:
        """`module`, averaging its gradients over all processes at the end of a backward pass."""
        if self.count == 1:
            return module
        devices = [device] if device.type == "cuda" else None
        return DistributedDataParallel(module, devices)

    def no_sync(self, module: nn.Module) -> AbstractContextManager:
        """Inside, gradients of what `ddp` gave are added up in each process, not averaged."""
        return module.no_sync() if self.count > 1 else nullcontext()

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Overwrite `tensors` with those of the first process."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.broadcast(flat, src=0)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, values in zip(tensors, flat.split(sizes), strict=True):
            tensor.copy_(values.view_as(tensor))


def check_started(device: str) -> str:
    """The name of this process' own device, if torchrun has started it.

    Raises:
        ConfigError: It has not; or a device that several processes cannot have.
    """
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        raise ConfigError(
            "distributed=True is for processes that torchrun starts: "
            "`torchrun --nproc-per-node 2 program.py`. "
            f"Received: an environment without {', '.join(missing)}"
        )
    if device not in ("cpu", "cuda"):
        raise ConfigError(
            "with distributed=True device must be cpu, or cuda, of which each process takes that "
            f"of its LOCAL_RANK. Received: {device!r}"
        )
    return device if device == "cpu" else f"cuda:{os.environ['LOCAL_RANK']}"


def join(device: torch.device) -> Processes:
    """All processes that torchrun has started; they meet here, once, and part at their exit."""
    if not dist.is_initialized():
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), dist.get_world_size())


@contextmanager
def synchronised(module: nn.Module, processes: Processes) -> Iterator[None]:
    """Inside, norms in training mode have the statistics of all processes' images."""
    norms = [norm for norm in module.modules() if isinstance(norm, Norm) and processes.count > 1]
    for norm in norms:
        norm.processes = processes
    try:
        yield
    finally:
        for norm in norms:
            norm.processes = None
