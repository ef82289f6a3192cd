"""Distributed training: several processes, started by torchrun, train one model.

Each process makes the same calls with the same arguments: whole batches, of which it computes its
own shard. `DistributedDataParallel` averages the gradients.
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

REQUIRED_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that torchrun sets in every process."""


class _Mean(torch.autograd.Function):
    """The mean over all processes: of a tensor (forward) and of its gradient (backward)."""

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
    """The group of processes that train one model.

    Attributes:
        rank: Index of this process, in [0, count).
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    def shard(self, batch: Batch) -> Batch:
        """Return this process's shard of a batch.

        Args:
            batch: The whole batch.

        Returns:
            The slice number `rank` of `count`, as views.

        Raises:
            ConfigError: The batch does not divide into equal shards.
        """
        if len(batch.images) % self.count:
            raise ConfigError(
                f"batch_size / accumulate must be a multiple of the number of processes, "
                f"{self.count}. Received: {len(batch.images)} images"
            )
        return batch.micro_batch(self.rank, self.count)

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes; it is differentiable.

        Args:
            x: Any shape, the same in every process.
        """
        return x if self.count == 1 else _Mean.apply(x)

    def any_rank(self, flag: bool, device: torch.device) -> bool:
        """Return whether `flag` is true in any process. Every process must call it.

        Args:
            flag: This process's value.
            device: The device of the model.
        """
        if self.count == 1:
            return flag
        maximum = torch.tensor(int(flag), device=device)
        dist.all_reduce(maximum, dist.ReduceOp.MAX)
        return bool(maximum.item())

    def ddp(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return a module wrapped in `DistributedDataParallel`, or unchanged for one process.

        Args:
            module: The module to train.
            device: Its device.
        """
        if self.count == 1:
            return module
        devices = [device] if device.type == "cuda" else None
        return DistributedDataParallel(module, devices)

    def no_sync(self, module: nn.Module) -> AbstractContextManager:
        """Return a context in which gradients accumulate without being averaged.

        Args:
            module: The result of `ddp`.
        """
        if isinstance(module, DistributedDataParallel):
            return module.no_sync()
        return nullcontext()

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Overwrite tensors with those of rank 0.

        Args:
            tensors: The same shapes in every process.
        """
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.broadcast(flat, src=0)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, values in zip(tensors, flat.split(sizes), strict=True):
            tensor.copy_(values.view_as(tensor))


def check_started(device: str) -> str:
    """Return the name of this process's device.

    Args:
        device: "cpu", or "cuda" for the GPU number LOCAL_RANK.

    Raises:
        ConfigError: torchrun has not started this process, or another device.
    """
    missing = [name for name in REQUIRED_VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            "distributed=True requires processes started by torchrun: "
            "`torchrun --nproc-per-node 2 program.py`. "
            f"Received: an environment without {', '.join(missing)}"
        )
    if device not in ("cpu", "cuda"):
        raise ConfigError(
            "device must be cpu or cuda with distributed=True; each process then takes the GPU "
            f"number LOCAL_RANK. Received: {device!r}"
        )
    return device if device == "cpu" else f"cuda:{os.environ['LOCAL_RANK']}"


def join(device: torch.device) -> Processes:
    """Return the group of processes, and initialize torch.distributed on the first call.

    Waits for the other processes. The group is destroyed at exit.

    Args:
        device: The device of this process; selects NCCL (CUDA) or Gloo (CPU).
    """
    if not dist.is_initialized():
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), dist.get_world_size())


@contextmanager
def synchronised(module: nn.Module, processes: Processes) -> Iterator[None]:
    """Use the statistics of all processes' images in training mode, inside a ``with`` block.

    Args:
        module: A module with `Norm` layers.
        processes: The group; for one process nothing changes.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, Norm) and processes.count > 1]
    for norm in norms:
        norm.processes = processes
    try:
        yield
    finally:
        for norm in norms:
            norm.processes = None
