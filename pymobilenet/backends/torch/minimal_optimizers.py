"""For each known difference of optimizers, the smallest pair of torch optimizers that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pymobilenet.backends.optimizer_run import OptimizerRun
from pymobilenet.backends.torch.optimizer_run import TorchOptimizer

Update = Callable[[dict[str, Any], Tensor, float], Tensor]
"""Maps state, gradient and rate to what is taken from a parameter."""


class _Rule(torch.optim.Optimizer):
    """An optimizer of one's own."""

    def __init__(self, parameters: list[nn.Parameter], rate: float, update: Update) -> None:
        super().__init__(parameters, {"lr": rate})
        self._update = update

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # takes no closure
        for group in self.param_groups:
            for parameter in group["params"]:
                assert parameter.grad is not None
                parameter.sub_(self._update(self.state[parameter], parameter.grad, group["lr"]))


def _average(state: dict[str, Any], name: str, value: Tensor, decay: float) -> Tensor:
    state[name] = decay * state.get(name, torch.zeros_like(value)) + (1 - decay) * value
    return state[name]


def _rate_inside(state: dict[str, Any], gradient: Tensor, rate: float) -> Tensor:
    state["v"] = 0.9 * state.get("v", 0) + rate * gradient
    return state["v"]


def _eps_inside(state: dict[str, Any], gradient: Tensor, rate: float) -> Tensor:
    return rate * gradient / (_average(state, "square", gradient**2, 0.99) + 1e-3).sqrt()


def _uncorrected(state: dict[str, Any], gradient: Tensor, rate: float) -> Tensor:
    mean = _average(state, "mean", gradient, 0.9)
    return rate * mean / (_average(state, "square", gradient**2, 0.999).sqrt() + 1e-8)


def _sgd(parameters: Any, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, **options)


def _undecayed_vectors(parameters: list[nn.Parameter]) -> torch.optim.SGD:
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    others = [parameter for parameter in parameters if parameter.ndim > 1]
    groups = [{"params": others, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return _sgd([group for group in groups if group["params"]])


def _each_clipped(parameters: list[nn.Parameter]) -> torch.optim.SGD:
    optimizer = _sgd(parameters)

    def clip(*_: Any) -> None:
        for parameter in parameters:
            nn.utils.clip_grad_norm_([parameter], 1.0)

    optimizer.register_step_pre_hook(clip)
    return optimizer


def _scheduled(steps_before: int) -> Callable[[list[nn.Parameter]], Any]:
    def build(parameters: list[nn.Parameter]) -> Any:
        optimizer = _sgd(parameters)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4], 0.5)
        for _ in range(steps_before):
            optimizer.step()  # there are no gradients yet
            scheduler.step()
        return optimizer, scheduler

    return build


def _run(build: Callable[[list[nn.Parameter]], Any], clip_norm: float = 0.0) -> OptimizerRun:
    return TorchOptimizer(build, clip_norm, "torch")


def _rule(rate: float, update: Update) -> OptimizerRun:
    return _run(lambda parameters: _Rule(parameters, rate, update))


OPTIMIZER_PAIRS: dict[str, Callable[[], tuple[OptimizerRun, OptimizerRun]]] = {
    "rate inside the momentum": lambda: (_run(_sgd), _rule(0.1, _rate_inside)),
    "eps inside the root": lambda: (
        _run(lambda p: torch.optim.RMSprop(p, 1e-2, eps=1e-3)),
        _rule(1e-2, _eps_inside),
    ),
    "bias correction": lambda: (
        _run(lambda p: torch.optim.Adam(p, 1e-3)),
        _rule(1e-3, _uncorrected),
    ),
    "coupled weight decay": lambda: (
        _run(lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1)),
        _run(lambda p: torch.optim.Adam(p, 1e-3, weight_decay=0.1)),
    ),
    "weight decay on norms and biases": lambda: (
        _run(lambda p: _sgd(p, weight_decay=0.1)),
        _run(_undecayed_vectors),
    ),
    "form of Nesterov's momentum": lambda: (_run(lambda p: _sgd(p, nesterov=True)), _run(_sgd)),
    "clipping of each gradient": lambda: (_run(_sgd, clip_norm=1.0), _run(_each_clipped)),
    "schedule off by one": lambda: (_run(_scheduled(0)), _run(_scheduled(1))),
    "constants of an optimizer": lambda: (
        _run(lambda p: torch.optim.RMSprop(p, 1e-2, alpha=0.99)),
        _run(lambda p: torch.optim.RMSprop(p, 1e-2, alpha=0.9)),
    ),
}
"""Name of a known difference -> function that builds the pair."""
