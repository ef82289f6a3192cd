"""A ``torch.optim.Optimizer`` that a comparison runs on given gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pymobilenet.backends.optimizer_run import (
    Arrays,
    OptimizerForm,
    OptimizerRun,
    OptimizerSteps,
)
from pymobilenet.errors import ConfigError

HOW = "a function of a list of parameters must return an optimizer, or an optimizer and a scheduler"


class TorchOptimizer(OptimizerRun):
    """An optimizer of torch.

    Args:
        build: Maps a list of parameters to a ``torch.optim.Optimizer``, or to an optimizer and a
            scheduler, which is advanced after each step.
        clip_norm: If not 0, gradients are limited by ``torch.nn.utils.clip_grad_norm_`` before
            each step.
        name: How reports call it.

    Raises:
        ConfigError: `build` returns something else.
    """

    def __init__(
        self, build: Callable[[list[torch.nn.Parameter]], Any], clip_norm: float, name: str
    ) -> None:
        self.name, self._build, self._clip_norm = name, build, clip_norm
        optimizer, scheduler = self._new([torch.nn.Parameter(torch.zeros(1, 1))])
        self.has_schedule = scheduler is not None
        self.form = _form(optimizer, clip_norm)

    def _new(self, parameters: list[torch.nn.Parameter]) -> tuple[torch.optim.Optimizer, Any]:
        built = self._build(parameters)
        optimizer, scheduler = built if isinstance(built, tuple) else (built, None)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ConfigError(f"{self.name}: {HOW}. Received: {type(optimizer).__name__}")
        return optimizer, scheduler

    def run(
        self, parameters: Arrays, gradients: Sequence[Arrays], factors: Sequence[float]
    ) -> OptimizerSteps:
        """Take a step for each of the gradients; see `OptimizerRun.run`."""
        tensors = {
            name: torch.nn.Parameter(torch.from_numpy(np.array(value, order="C")))
            for name, value in parameters.items()
        }
        optimizer, scheduler = self._new(list(tensors.values()))
        own_rates = [group["lr"] for group in optimizer.param_groups]
        results, rates = [], []
        for step, (gradient, factor) in enumerate(zip(gradients, factors, strict=True)):
            if scheduler is None:
                for group, rate in zip(optimizer.param_groups, own_rates, strict=True):
                    group["lr"] = rate * factor
            for name, tensor in tensors.items():
                tensor.grad = torch.from_numpy(np.array(gradient[name], order="C"))
            if self._clip_norm:
                torch.nn.utils.clip_grad_norm_(list(tensors.values()), self._clip_norm)
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if scheduler is not None and step < len(gradients) - 1:
                scheduler.step()
            results.append({name: t.detach().numpy().copy() for name, t in tensors.items()})
        return OptimizerSteps(results, rates)


def _form(optimizer: torch.optim.Optimizer, clip_norm: float) -> OptimizerForm | None:
    """Return the formula of an optimizer of ``torch.optim``, or None for any other."""
    options = optimizer.param_groups[0]
    if options.get("amsgrad") or options.get("centered") or options.get("maximize"):
        return None
    decay = float(options.get("weight_decay", 0.0))
    kind = type(optimizer)
    if kind is torch.optim.SGD:
        return OptimizerForm(
            momentum=options["momentum"],
            dampening=options["dampening"],
            nesterov="gradient" if options["nesterov"] else "no",
            decay=decay,
            clip_norm=clip_norm,
        )
    if kind is torch.optim.RMSprop:
        return OptimizerForm(
            "rmsprop",
            momentum=options["momentum"],
            alpha=options["alpha"],
            eps=options["eps"],
            decay=decay,
            clip_norm=clip_norm,
        )
    if kind in (torch.optim.Adam, torch.optim.AdamW):
        decoupled = kind is torch.optim.AdamW or options.get("decoupled_weight_decay", False)
        return OptimizerForm(
            "adam",
            beta1=float(options["betas"][0]),
            beta2=float(options["betas"][1]),
            eps=options["eps"],
            decay=decay,
            decay_form="decoupled" if decoupled else "coupled",
            clip_norm=clip_norm,
        )
    return None
