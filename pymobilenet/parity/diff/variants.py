"""Variants of a layer: the same layer as another framework, or a mistaken port, computes it.

Each function takes a layer and its counterpart in the other model and yields (what is different,
the layer computed in that way). The layer's recorded output is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pymobilenet.backends.trace import Layer, Variant, Variants
from pymobilenet.parity.diff.input_variants import INPUT_VARIANTS
from pymobilenet.parity.diff.ops import ACTIVATIONS
from pymobilenet.parity.diff.weight_variants import WEIGHT_VARIANTS

EPS_VALUES = (1e-3, 1e-5, 1e-6, 1e-8, 1e-12, float(np.float32(1e-5)), float(np.float32(1e-3)), 0.0)


def _eps_values(layer: Layer, other: Layer) -> Variant:
    """The usual constants of norms, and the other's."""
    received = other.settings.get("eps")
    for eps in dict.fromkeys((*((received,) if received is not None else ()), *EPS_VALUES)):
        if eps != layer.settings["eps"]:
            yield (
                f"eps is {eps:.8g} instead of {layer.settings['eps']:.8g}",
                layer.with_settings(eps=eps),
            )


def _batch_statistics(layer: Layer, _other: Layer) -> Variant:
    """A batch norm in the other mode."""
    if layer.settings["training"] and "running_mean" not in layer.params:
        return
    uses_batch = not layer.settings["training"]
    word = "training" if uses_batch else "evaluation"
    yield f"the norm is in {word} mode", layer.with_settings(training=uses_batch)


def _norm_parameters(layer: Layer, _other: Layer) -> Variant:
    """Norms whose parameters are missing, exchanged, or stored in another form."""
    params: Mapping[str, np.ndarray] = layer.params
    if "weight" in params:
        yield "the scale is missing", layer.with_params(weight=None)
        yield "the scale counts from 1", layer.with_params(weight=params["weight"] + 1)
    if "bias" in params:
        yield "the shift is missing", layer.with_params(bias=None)
    if "weight" in params and "bias" in params:
        exchanged = layer.with_params(weight=params["bias"], bias=params["weight"])
        yield "scale and shift are exchanged", exchanged
    if "running_var" in params:
        mean, variance = params["running_mean"], params["running_var"]
        yield (
            "mean and variance are exchanged",
            layer.with_params(running_mean=variance, running_var=np.abs(mean)),
        )
        yield (
            "the deviation is used as variance",
            layer.with_params(running_var=np.sqrt(variance)),
        )
        yield "the variance is squared", layer.with_params(running_var=variance**2)
        yield (
            "the running statistics are those of a new norm",
            layer.with_params(running_mean=np.zeros_like(mean), running_var=np.ones_like(variance)),
        )


def _layer_norm_forms(layer: Layer, other: Layer) -> Variant:
    """Layer norms with the square of eps, with eps outside the root, or the unbiased deviation."""
    squares = bool(other.settings.get("eps_squared"))
    if squares != bool(layer.settings.get("eps_squared")):
        word = "the square of eps, and not eps" if squares else "eps, and not its square"
        eps = other.settings["eps"]
        yield (
            f"{word}, is added to the variance; eps is {eps:.8g}",
            layer.with_settings(eps_squared=squares, eps=eps),
        )
    for ddof, outside in ((0, True), (1, False), (1, True)):
        words = ["eps is added to the deviation"] * outside + ["the deviation is unbiased"] * ddof
        yield " and ".join(words), layer.with_settings(ddof=ddof, eps_outside=outside)


def _activations(layer: Layer, _other: Layer) -> Variant:
    """Every other activation function."""
    own = layer.settings["function"]
    for function in ACTIVATIONS:
        if function != own:
            yield f"{function} instead of {own}", layer.with_settings(function=function)
    for slope in (0.01, 0.1, 0.2, 0.25, 0.3):
        yield (
            f"leaky_relu with slope {slope}",
            layer.with_settings(function="leaky_relu", slope=slope),
        )


def _softmax_forms(layer: Layer, _other: Layer) -> Variant:
    """Softmax along other axes, its logarithm, twice, or not at all."""
    kind = "log_softmax" if layer.kind == "softmax" else "softmax"
    yield f"a {kind.replace('_', ' ')} in its place", replace(layer, kind=kind)
    yield "no softmax", replace(layer, kind="identity")
    yield "a softmax over the batch", layer.with_settings(axis=0)


def _adaptive_windows(layer: Layer, _other: Layer) -> Variant:
    """Adaptive pools with the windows of the other framework."""
    if "output_size" not in layer.settings:
        return
    is_fixed = layer.settings.get("windows") == "fixed"
    words = "the windows cover all pixels" if is_fixed else "all windows have one size and stride"
    yield words, layer.with_settings(windows="covering" if is_fixed else "fixed")


def _corners(layer: Layer, _other: Layer) -> Variant:
    """Interpolation with or without aligned corners."""
    if layer.settings["mode"] == "bilinear":
        aligned = not layer.settings["align_corners"]
        word = "aligned" if aligned else "not aligned"
        yield f"the corners are {word}", layer.with_settings(align_corners=aligned, antialias=False)


def _antialiasing(layer: Layer, _other: Layer) -> Variant:
    """Interpolation with or without antialiasing."""
    if layer.settings["mode"] == "bilinear":
        smooth = not layer.settings["antialias"]
        word = "with" if smooth else "without"
        yield (
            f"the maps are resized {word} antialiasing",
            layer.with_settings(antialias=smooth, align_corners=False),
        )


def _residual_omitted(layer: Layer, _other: Layer) -> Variant:
    """Sums of which only one term is there."""
    for position, name in enumerate(("second", "first")):
        yield (
            f"the {name} term is missing",
            replace(layer, kind="identity", inputs=(layer.inputs[position],)),
        )
    yield "the terms are multiplied", replace(layer, kind="multiply")


def _strides(layer: Layer, other: Layer) -> Variant:
    """The other's stride, also with its padding or its size of a pool."""
    yield from _settings_of_other(layer, other, "stride", ("padding", "size"))


def _dilations(layer: Layer, other: Layer) -> Variant:
    """The other's dilation, also with its padding, which grows with it."""
    yield from _settings_of_other(layer, other, "dilation", ("padding",))


def _settings_of_other(layer: Layer, other: Layer, name: str, with_it: tuple[str, ...]) -> Variant:
    own, received = layer.settings.get(name), other.settings.get(name)
    if None in (own, received) or own == received:
        return
    words = f"{name} is {received} instead of {own}"
    yield words, layer.with_settings(**{name: received})
    more = {
        each: other.settings[each]
        for each in with_it
        if each in layer.settings and other.settings.get(each) not in (None, layer.settings[each])
    }
    if more:
        listed = " and ".join(f"{each} {value}" for each, value in more.items())
        yield f"{words}, with {listed}", layer.with_settings(**{name: received, **more})


def _other_groups(layer: Layer, other: Layer) -> Variant:
    """The other's groups with its weight, which has another shape."""
    own, received = layer.settings["groups"], other.settings["groups"]
    if own != received:
        yield (
            f"groups is {received} instead of {own}",
            replace(layer, params=other.params).with_settings(groups=received),
        )


def _other_settings(layer: Layer, other: Layer) -> Variant:
    """The other's settings, one after the other and all together."""
    different = {
        name: value
        for name, value in other.settings.items()
        if name in layer.settings and value != layer.settings[name] and name != "map_shape"
    }
    for name, value in different.items():
        yield (
            f"{name} is {value} instead of {layer.settings[name]}",
            layer.with_settings(**{name: value}),
        )
    if len(different) > 1:
        words = ", ".join(f"{name} {value}" for name, value in different.items())
        yield f"other settings: {words}", layer.with_settings(**different)


VARIANTS: dict[str, Variants] = {
    **WEIGHT_VARIANTS,
    **INPUT_VARIANTS,
    "eps of a norm": _eps_values,
    "norm in training mode": _batch_statistics,
    "parameters of a norm": _norm_parameters,
    "form of layer norm": _layer_norm_forms,
    "activation function": _activations,
    "softmax": _softmax_forms,
    "windows of an adaptive pool": _adaptive_windows,
    "corners in resizing (align_corners)": _corners,
    "antialiasing in resizing": _antialiasing,
    "stride": _strides,
    "dilation": _dilations,
    "groups": _other_groups,
    "missing residual": _residual_omitted,
    "settings of the layer": _other_settings,
}
"""Name of a known difference -> function that yields variants."""
