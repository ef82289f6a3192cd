"""torch's optimizers as a `TrainConfig` asks for them, and the one that torch lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pymobilenet.config import TrainConfig

SLOTS = {
    "momentum": "momentum_buffer",
    "exp_avg": "exp_avg",
    "exp_avg_sq": "exp_avg_sq",
    "square_avg": "square_avg",
}
"""The canonical names of moments -> the names in an optimizer's state."""


def new_optimizer(config: TrainConfig, module: nn.Module) -> torch.optim.Optimizer:
    """What moves the parameters of `module`; set `lr` of its groups before each step."""
    groups = _groups(config, module)
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            groups, config.rate, momentum=config.momentum, nesterov=config.nesterov
        )
        optimizer.register_step_post_hook(_count_steps)
        return optimizer
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            groups, config.rate, alpha=config.alpha, eps=config.eps, momentum=config.momentum
        )
    if config.optimizer == "rmsprop_tf":
        return RMSpropTF(groups, config)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, config.rate, betas=(config.beta1, config.beta2), eps=config.eps)


def _groups(config: TrainConfig, module: nn.Module) -> list[dict[str, Any]]:
    """The parameters with their decay; those of one axis apart, if they are to have none."""
    groups: dict[float, list[Tensor]] = {}
    for parameter in module.parameters():
        decay = config.weight_decay if config.decay_all or parameter.ndim > 1 else 0.0
        groups.setdefault(decay, []).append(parameter)
    return [{"params": found, "weight_decay": decay} for decay, found in groups.items()]


def _count_steps(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """SGD counts no steps of its own; the state has one count for all parameters."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            kept = optimizer.state[parameter]
            kept["step"] = kept.get("step", 0) + 1


class RMSpropTF(torch.optim.Optimizer):
    """TensorFlow's and Keras' RMSprop: `eps` under the root, the rate in the momentum."""

    def __init__(self, groups: list[dict[str, Any]], config: TrainConfig) -> None:
        super().__init__(groups, {"lr": config.rate, "weight_decay": config.weight_decay})
        self.config = config

    @torch.no_grad()
    def step(self) -> None:
        alpha, eps = self.config.alpha, self.config.eps
        for group in self.param_groups:
            for parameter in group["params"]:
                kept = self.state[parameter] or self._begin(parameter)
                kept["step"] += 1
                grad = parameter.grad.add(parameter, alpha=group["weight_decay"])
                kept["square_avg"].mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
                pull = grad.mul_(group["lr"]).div_(kept["square_avg"].add(eps).sqrt_())
                if self.config.momentum > 0:
                    pull = kept["momentum_buffer"].mul_(self.config.momentum).add_(pull)
                parameter.sub_(pull)

    def _begin(self, parameter: Tensor) -> dict[str, Any]:
        kept = self.state[parameter]
        kept["step"] = 0
        for slot in self.config.moments:
            kept[SLOTS[slot]] = torch.full_like(parameter, self.config.start_of(slot))
        return kept


@torch.no_grad()
def clip(parameters: Iterable[Tensor], largest: float) -> None:
    """`torch.nn.utils.clip_grad_norm_`, with the norm in float64 and new tensors for gradients that
    change: the old ones have been handed out.
    """
    given = list(parameters)
    grads = [p.grad.cpu() if p.device.type == "mps" else p.grad for p in given]  # no float64 there
    norms = [torch.linalg.vector_norm(grad, dtype=torch.float64) for grad in grads]
    factor = largest / (torch.linalg.vector_norm(torch.stack(norms)).item() + 1e-6)
    if not factor >= 1:  # nor where it is no number
        for parameter in given:
            parameter.grad = parameter.grad * factor
