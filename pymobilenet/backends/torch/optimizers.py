"""PyTorch optimizers from a `TrainConfig`, and `RMSpropTF`, which PyTorch does not have."""

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
"""Canonical slot names -> keys of an optimizer's state."""


def new_optimizer(config: TrainConfig, module: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of a module's parameters.

    Args:
        config: The optimizer and its hyperparameters.
        module: The module to train.

    Returns:
        An optimizer. Set ``lr`` of its parameter groups before each step.
    """
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
    """Group the parameters by weight decay; without `decay_all`, 1-D parameters have none."""
    groups: dict[float, list[Tensor]] = {}
    for parameter in module.parameters():
        decay = config.weight_decay if config.decay_all or parameter.ndim > 1 else 0.0
        groups.setdefault(decay, []).append(parameter)
    return [{"params": tensors, "weight_decay": decay} for decay, tensors in groups.items()]


def _count_steps(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Count the steps of `torch.optim.SGD`, which does not."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            state["step"] = state.get("step", 0) + 1


class RMSpropTF(torch.optim.Optimizer):
    """RMSprop like TensorFlow's and Keras': `eps` under the root, the rate in the momentum.

    Args:
        groups: Parameter groups with ``params`` and ``weight_decay``.
        config: For `rate`, `alpha`, `eps`, `momentum` and `initial_square_avg`.
    """

    def __init__(self, groups: list[dict[str, Any]], config: TrainConfig) -> None:
        super().__init__(groups, {"lr": config.rate, "weight_decay": config.weight_decay})
        self.config = config

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # takes no closure
        """Update the parameters from their gradients, which are overwritten."""
        alpha, eps = self.config.alpha, self.config.eps
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter] or self._initial_state(parameter)
                state["step"] += 1
                grad = parameter.grad.add(parameter, alpha=group["weight_decay"])
                state["square_avg"].mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
                update = grad.mul_(group["lr"]).div_(state["square_avg"].add(eps).sqrt_())
                if self.config.momentum > 0:
                    update = state["momentum_buffer"].mul_(self.config.momentum).add_(update)
                parameter.sub_(update)

    def _initial_state(self, parameter: Tensor) -> dict[str, Any]:
        state = self.state[parameter]
        state["step"] = 0
        for slot in self.config.moments:
            state[SLOTS[slot]] = torch.full_like(parameter, self.config.start_of(slot))
        return state


@torch.no_grad()
def clip(parameters: Iterable[Tensor], clip_norm: float) -> None:
    """Clip gradients like `torch.nn.utils.clip_grad_norm_`, with the norm in float64.

    Clipped gradients are new tensors, because `Model.step` returns the old ones.

    Args:
        parameters: Parameters with gradients.
        clip_norm: The largest common norm, above 0.
    """
    tensors = list(parameters)
    # MPS does not support float64.
    present = [p.grad for p in tensors if p.grad is not None]
    grads = [grad.cpu() if grad.device.type == "mps" else grad for grad in present]
    norms = [torch.linalg.vector_norm(grad, dtype=torch.float64) for grad in grads]
    factor = clip_norm / (torch.linalg.vector_norm(torch.stack(norms)).item() + 1e-6)
    if not factor >= 1:  # also if it is NaN
        for parameter in tensors:
            if parameter.grad is not None:
                parameter.grad = parameter.grad * factor
