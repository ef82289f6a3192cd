"""Every optimizer with each of its options, and the equivalent torch.optim optimizer."""

import torch

from pymobilenet import TrainConfig
from pymobilenet.backends.torch.optimizers import RMSpropTF

BETAS = {"beta1": 0.6, "beta2": 0.9, "eps": 1e-3}
SQUARES = {"alpha": 0.8, "eps": 1e-3}
RECIPES = {
    "plain sgd": TrainConfig(momentum=0),
    "sgd": TrainConfig(momentum=0.75),
    "sgd, nesterov": TrainConfig(momentum=0.75, nesterov=True),
    "sgd, decay": TrainConfig(momentum=0.75, weight_decay=0.05),
    "sgd, all options": TrainConfig(
        momentum=0.75, nesterov=True, weight_decay=0.05, decay_all=False, clip_norm=0.5
    ),
    "sgd, ema": TrainConfig(momentum=0.75, ema_decay=0.9),
    "rmsprop_tf, ema": TrainConfig(optimizer="rmsprop_tf", rate=1e-3, ema_decay=0.9),
    "ema only": TrainConfig(momentum=0, ema_decay=0.9),
    "adam": TrainConfig(optimizer="adam", **BETAS),
    "adam, decay, clip": TrainConfig(optimizer="adam", weight_decay=0.05, clip_norm=0.5, **BETAS),
    "adamw": TrainConfig(optimizer="adamw", weight_decay=0.05, **BETAS),
    "adamw, weights only": TrainConfig(
        optimizer="adamw", weight_decay=0.05, decay_all=False, **BETAS
    ),
    "rmsprop": TrainConfig(optimizer="rmsprop", momentum=0, **SQUARES),
    "rmsprop, all options": TrainConfig(
        optimizer="rmsprop",
        momentum=0.75,
        weight_decay=0.05,
        decay_all=False,
        clip_norm=0.5,
        **SQUARES,
    ),
    "rmsprop_tf": TrainConfig(optimizer="rmsprop_tf", momentum=0, **SQUARES),
    "rmsprop_tf, all options": TrainConfig(
        optimizer="rmsprop_tf",
        momentum=0.75,
        initial_square_avg=1,
        weight_decay=0.05,
        clip_norm=0.5,
        **SQUARES,
    ),
}

SLOTS = {
    "momentum": "momentum_buffer",
    "exp_avg": "exp_avg",
    "exp_avg_sq": "exp_avg_sq",
    "square_avg": "square_avg",
}


def torch_optimizer(recipe, parameters):
    """The torch.optim optimizer of a recipe, and a function that takes a step with a rate."""
    parameters = list(parameters)
    weights = [p for p in parameters if p.ndim > 1 or recipe.decay_all]
    others = [p for p in parameters if p.ndim <= 1 and not recipe.decay_all]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}]
    groups += [{"params": others, "weight_decay": 0}] if others else []
    adam = {"betas": (recipe.beta1, recipe.beta2), "eps": recipe.eps}
    squares = {"alpha": recipe.alpha, "eps": recipe.eps, "momentum": recipe.momentum}
    optimizer = {
        "sgd": lambda: torch.optim.SGD(
            groups, 1, momentum=recipe.momentum, nesterov=recipe.nesterov
        ),
        "adam": lambda: torch.optim.Adam(groups, 1, **adam),
        "adamw": lambda: torch.optim.AdamW(groups, 1, **adam),
        "rmsprop": lambda: torch.optim.RMSprop(groups, 1, **squares),
        "rmsprop_tf": lambda: RMSpropTF(groups, recipe),
    }[recipe.optimizer]()

    def step(rate):
        if recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()

    return optimizer, step
