"""The formulas of optimizers in float64 NumPy, with every way in which frameworks differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pymobilenet.backends.optimizer_run import Arrays, OptimizerForm

Moments = dict[str, np.ndarray]


def compute_steps(
    form: OptimizerForm, parameters: Arrays, gradients: Sequence[Arrays], rates: Sequence[float]
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the parameters after each step.

    Args:
        form: The formula.
        parameters: Where the steps start.
        gradients: For each step, those of all parameters.
        rates: For each step, the rate of a schedule that is not shifted.

    Yields:
        float64 arrays; for a schedule that is ahead, none for the last steps.
    """
    values = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    moments: dict[str, Moments] = {name: {} for name in values}
    for step, raw in enumerate(gradients):
        number = step + form.rates_ahead
        if number >= len(rates):
            return
        rate = rates[max(number, 0)]
        clipped = _clip(form, {k: np.asarray(v, np.float64) for k, v in raw.items()})
        for name, gradient in clipped.items():
            values[name] = _update(form, values[name], gradient, moments[name], rate, step + 1)
        yield dict(values)


def _clip(form: OptimizerForm, gradients: Arrays) -> Arrays:
    """Limit the norm of all gradients together, or of each."""
    if form.clip_norm == 0:
        return gradients
    norms = {name: float(np.linalg.norm(value)) for name, value in gradients.items()}
    if not form.clips_each:
        norms = dict.fromkeys(norms, float(np.linalg.norm(list(norms.values()))))
    return {
        name: value * min(1.0, form.clip_norm / (norms[name] + form.clip_eps))
        for name, value in gradients.items()
    }


def _update(
    form: OptimizerForm,
    value: np.ndarray,
    gradient: np.ndarray,
    moments: Moments,
    rate: float,
    step: int,
) -> np.ndarray:
    """Return the new parameter; the moments are updated in place. Steps count from 1."""
    decay = form.decay if form.decays_vectors or value.ndim > 1 else 0.0
    if form.decay_form == "coupled":
        gradient = gradient + decay * value
    elif decay:
        value = value - decay * (rate if form.decay_form == "decoupled" else 1.0) * value
    if form.rule == "adam":
        return value - rate * _adam(form, gradient, moments, step)
    if form.rule == "rmsprop":
        gradient = _rmsprop(form, gradient, moments)
    return value - _with_momentum(form, gradient, moments, rate, step)


def _adam(form: OptimizerForm, gradient: np.ndarray, moments: Moments, step: int) -> np.ndarray:
    mean = _average(moments, "mean", gradient, form.beta1)
    square = _average(moments, "square", gradient**2, form.beta2)
    corrections = (1 - form.beta1**step, 1 - form.beta2**step)
    first, second = corrections if form.corrects_bias else (1.0, 1.0)
    if form.eps_place == "before":
        return mean / first * np.sqrt(second) / (np.sqrt(square) + form.eps)
    return mean / first / _root(form, square / second)


def _rmsprop(form: OptimizerForm, gradient: np.ndarray, moments: Moments) -> np.ndarray:
    return gradient / _root(form, _average(moments, "square", gradient**2, form.alpha))


def _root(form: OptimizerForm, square: np.ndarray) -> np.ndarray:
    return np.sqrt(square + form.eps) if form.eps_place == "inside" else np.sqrt(square) + form.eps


def _average(moments: Moments, name: str, value: np.ndarray, decay: float) -> np.ndarray:
    moments[name] = decay * moments.get(name, np.zeros_like(value)) + (1 - decay) * value
    return moments[name]


def _with_momentum(
    form: OptimizerForm, gradient: np.ndarray, moments: Moments, rate: float, step: int
) -> np.ndarray:
    """Return what is taken from the parameter."""
    if form.momentum == 0:
        return rate * gradient
    inside, outside = (rate, 1.0) if form.is_rate_inside else (1.0, rate)
    before = moments.get("momentum", np.zeros_like(gradient))
    part = 1.0 if step == 1 else 1 - form.dampening
    momentum = moments["momentum"] = form.momentum * before + part * inside * gradient
    if form.nesterov == "gradient":
        return outside * (inside * gradient + form.momentum * momentum)
    if form.nesterov == "momentum":
        return outside * (1 + form.momentum) * momentum
    return outside * momentum
