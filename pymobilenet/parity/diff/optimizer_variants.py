"""Variants of an optimizer's formula: the same optimizer as another framework has it.

Each function takes the formula of the first optimizer and that of the other, if it is known, and
yields (what is different, the formula with that difference).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from pymobilenet.backends.optimizer_run import OptimizerForm

Variants = Iterator[tuple[str, OptimizerForm]]

EPS_PLACES = {
    "outside": "eps is added to the root",
    "inside": "eps is added under the root",
    "before": "eps is added before the bias correction",
}
DECAY_FORMS = {
    "coupled": "the decay is added to the gradient",
    "decoupled": "the decay times the rate is taken from the parameter",
    "without rate": "the decay is taken from the parameter, without the rate",
}
NESTEROV_FORMS = {
    "no": "the step is the momentum, without a look ahead",
    "gradient": "the step is the gradient plus the momentum times its decay",
    "momentum": "the step is the momentum times one more than its decay",
}
CONSTANTS = {
    "sgd": ("momentum", "dampening", "decay", "clip_norm"),
    "adam": ("beta1", "beta2", "eps", "decay", "clip_norm"),
    "rmsprop": ("momentum", "alpha", "eps", "decay", "clip_norm"),
}
"""Rule -> the numbers in its formula."""
USUAL_CONSTANTS = {
    "momentum": (0.9, 0.0, 0.99),
    "beta1": (0.9, 0.99),
    "beta2": (0.999, 0.99, 0.98),
    "alpha": (0.9, 0.99),
    "eps": (1e-8, 1e-7, 1e-5, 1e-3, 1.0),
    "decay": (0.0, 1e-2),
}
"""Values that frameworks have by default, tried where the other's constants are not known."""


def _rate_inside(form: OptimizerForm, _other: OptimizerForm | None) -> Variants:
    if form.momentum and form.rule != "adam":
        inside = not form.is_rate_inside
        word = "momentum" if inside else "step"
        yield f"the rate is multiplied into the {word}", replace(form, is_rate_inside=inside)


def _eps_places(form: OptimizerForm, _other: OptimizerForm | None) -> Variants:
    for place, words in EPS_PLACES.items():
        is_possible = form.rule == "adam" or (form.rule == "rmsprop" and place != "before")
        if is_possible and place != form.eps_place:
            yield words, replace(form, eps_place=place)


def _bias_correction(form: OptimizerForm, _other: OptimizerForm | None) -> Variants:
    if form.rule == "adam":
        corrects = not form.corrects_bias
        word = "corrected" if corrects else "not corrected"
        yield f"the averages are {word}", replace(form, corrects_bias=corrects)


def _decay_forms(form: OptimizerForm, _other: OptimizerForm | None) -> Variants:
    for decay_form, words in DECAY_FORMS.items():
        if form.decay and decay_form != form.decay_form:
            yield words, replace(form, decay_form=decay_form)


def _decayed_vectors(form: OptimizerForm, _other: OptimizerForm | None) -> Variants:
    if form.decay:
        decays = not form.decays_vectors
        word = "are" if decays else "are not"
        yield f"parameters with one axis {word} decayed", replace(form, decays_vectors=decays)


def _nesterov_forms(form: OptimizerForm, _other: OptimizerForm | None) -> Variants:
    for nesterov, words in NESTEROV_FORMS.items():
        if form.momentum and form.rule == "sgd" and nesterov != form.nesterov:
            yield words, replace(form, nesterov=nesterov)


def _clipping(form: OptimizerForm, _other: OptimizerForm | None) -> Variants:
    if form.clip_norm:
        words = "all gradients together are" if form.clips_each else "each gradient is"
        for eps in (0.0, 1e-6):
            yield (
                f"the norm of {words} limited",
                replace(form, clips_each=not form.clips_each, clip_eps=eps),
            )


def _shifted_rates(form: OptimizerForm, _other: OptimizerForm | None) -> Variants:
    yield "the rate is that of the next step", replace(form, rates_ahead=form.rates_ahead + 1)
    yield "the rate is that of the step before", replace(form, rates_ahead=form.rates_ahead - 1)


def _other_constants(form: OptimizerForm, other: OptimizerForm | None) -> Variants:
    if other is None:
        for name in CONSTANTS[form.rule]:
            for value in USUAL_CONSTANTS.get(name, ()):
                if value != getattr(form, name):
                    words = f"{name} is {value:g} instead of {getattr(form, name):g}"
                    change: dict[str, Any] = {name: value}
                    yield words, replace(form, **change)
        return
    different = {
        name: getattr(other, name)
        for name in CONSTANTS[form.rule]
        if getattr(other, name) != getattr(form, name)
    }
    for name, value in different.items():
        words = f"{name} is {value:g} instead of {getattr(form, name):g}"
        yield words, replace(form, **{name: value})
    if len(different) > 1:
        words = ", ".join(f"{name} is {value:g}" for name, value in different.items())
        yield words, replace(form, **different)


OPTIMIZER_VARIANTS: dict[str, Callable[[OptimizerForm, OptimizerForm | None], Variants]] = {
    "rate inside the momentum": _rate_inside,
    "eps inside the root": _eps_places,
    "bias correction": _bias_correction,
    "coupled weight decay": _decay_forms,
    "weight decay on norms and biases": _decayed_vectors,
    "form of Nesterov's momentum": _nesterov_forms,
    "clipping of each gradient": _clipping,
    "schedule off by one": _shifted_rates,
    "constants of an optimizer": _other_constants,
}
"""Name of a known difference -> function that yields variants."""
