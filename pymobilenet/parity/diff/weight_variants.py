"""Variants of a layer whose weights were carried over in another form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pymobilenet.backends.trace import Layer, Variant, Variants


def _kernel_flipped(layer: Layer, _other: Layer) -> Variant:
    """Kernels reversed along their spatial axes."""
    weight = layer.params["weight"]
    if max(weight.shape[2:]) > 1:
        flipped = np.flip(weight, tuple(range(2, weight.ndim)))
        yield "the kernel is reversed along both spatial axes", layer.with_params(weight=flipped)
        for axis in range(2, weight.ndim):
            name = ("height", "width")[axis - weight.ndim]
            yield (
                f"the kernel is reversed along its {name} only",
                layer.with_params(weight=np.flip(weight, axis)),
            )


def _kernel_axes_exchanged(layer: Layer, _other: Layer) -> Variant:
    """Kernels whose height and width are exchanged, flipped or not."""
    weight = layer.params["weight"]
    if weight.ndim == 4 and weight.shape[2] == weight.shape[3] > 1:
        swapped = weight.swapaxes(2, 3)
        yield "height and width of the kernel are exchanged", layer.with_params(weight=swapped)
        yield (
            "height and width of the kernel are exchanged, and the kernel is reversed",
            layer.with_params(weight=np.flip(swapped, (2, 3))),
        )


def _weight_axes_exchanged(layer: Layer, _other: Layer) -> Variant:
    """Kernels whose first two axes are exchanged."""
    weight = layer.params["weight"]
    if weight.shape[0] == weight.shape[1] > 1:
        swapped = weight.swapaxes(0, 1)
        yield (
            "input and output channels of the kernel are exchanged",
            layer.with_params(weight=swapped),
        )
        if max(weight.shape[2:]) > 1:
            flipped = np.flip(swapped, tuple(range(2, weight.ndim)))
            yield (
                "input and output channels are exchanged, and the kernel is reversed",
                layer.with_params(weight=flipped),
            )


def _transposed(layer: Layer, _other: Layer) -> Variant:
    """A square dense weight, transposed."""
    weight = layer.params["weight"]
    if weight.shape[0] == weight.shape[1]:
        yield "the weight is transposed", layer.with_params(weight=weight.T)


def _class_orders(layer: Layer, other: Layer) -> Variant:
    """The same rows of a dense weight in another order."""
    weight, other_weight = layer.params["weight"], other.params.get("weight")
    if other_weight is None or other_weight.shape != weight.shape:
        return
    rows = {(row + 0.0).tobytes(): index for index, row in enumerate(weight)}
    order = [rows.get((row + 0.0).tobytes(), -1) for row in other_weight.astype(weight.dtype)]
    unchanged = list(range(len(weight)))
    if order != unchanged and sorted(order) == unchanged:
        params = {name: value[order] for name, value in layer.params.items()}
        yield f"the classes are in the order {order}", replace(layer, params=params)


def _bias_omitted(layer: Layer, _other: Layer) -> Variant:
    """A layer without its bias."""
    if "bias" in layer.params:
        yield "the bias is not added", layer.with_params(bias=None)


def _bias_of_other(layer: Layer, other: Layer) -> Variant:
    """A layer with the other's bias."""
    bias = other.params.get("bias")
    if "bias" not in layer.params and bias is not None and np.any(bias):
        yield "a bias is added", layer.with_params(bias=bias)


def _half_precision(layer: Layer, _other: Layer) -> Variant:
    """Weights, or weights and inputs, with fewer digits."""
    for name, digits in (("float16", 10), ("bfloat16", 7), ("float32", 23)):
        rounded = {k: _rounded_to(v, digits) for k, v in layer.params.items()}
        yield f"weight and bias are rounded to {name}", replace(layer, params=rounded)
        weight = rounded["weight"]
        yield f"the weight is rounded to {name}", layer.with_params(weight=weight)
    weight = _rounded_to(layer.params["weight"], 10)
    inputs = tuple(_rounded_to(value, 10) for value in layer.inputs)
    yield (
        "products are computed in TF32",
        replace(layer.with_params(weight=weight), inputs=inputs),
    )


def _rounded_to(value: np.ndarray, digits: int) -> np.ndarray:
    """Round to `digits` binary digits behind the first, ties to even."""
    mantissa, exponent = np.frexp(np.asarray(value, np.float64))
    return np.ldexp(np.round(np.ldexp(mantissa, digits + 1)), exponent - digits - 1)


def _other_weights(layer: Layer, other: Layer) -> Variant:
    """The other's parameters."""
    different = {
        name
        for name, value in layer.params.items()
        if name not in other.params or not np.array_equal(value, other.params[name])
    }
    if different and set(layer.params) == set(other.params):
        names = ", ".join(sorted(different))
        yield f"other values of {names}", replace(layer, params=other.params)


WEIGHT_VARIANTS: dict[str, Variants] = {
    "kernel flip": _kernel_flipped,
    "kernel height and width exchanged": _kernel_axes_exchanged,
    "input and output channels exchanged": _weight_axes_exchanged,
    "dense weight transposed": _transposed,
    "order of classes": _class_orders,
    "missing bias": _bias_omitted,
    "additional bias": _bias_of_other,
    "weights in half precision": _half_precision,
    "other weights": _other_weights,
}
"""Name of a known difference -> function that yields variants."""
