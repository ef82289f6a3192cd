"""Variants of a layer that gets, pads or pools its input in another way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from pymobilenet.backends.trace import Layer, Variant, Variants
from pymobilenet.parity.diff.map_ops import same_padding

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""torchvision's constants for ImageNet, RGB."""
CIFAR_MEAN, CIFAR_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
"""CIFAR-100's, of its training images."""


def _flatten_orders(layer: Layer, other: Layer) -> Variant:
    """Maps flattened in another order of their axes."""
    if layer.kind == "dense":
        features = layer.inputs[0]
        for maps in _map_shapes(layer, other):
            for order, order_name in _orders(len(maps)):
                value = features.reshape(len(features), *maps).transpose(0, *order)
                yield (
                    f"the features are flattened as {order_name}",
                    replace(layer, inputs=(value.reshape(features.shape),)),
                )
        return
    value = layer.inputs[0]
    for order, order_name in _orders(value.ndim - 1):
        yield (
            f"the maps are flattened as {order_name}",
            replace(layer, inputs=(value.transpose(0, *order),)),
        )


def _map_shapes(layer: Layer, other: Layer) -> list[tuple[int, ...]]:
    shapes = (layer.settings.get("map_shape"), other.settings.get("map_shape"))
    return [shape for shape in dict.fromkeys(shapes) if shape is not None and len(shape) > 1]


def _orders(axes: int) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield each other order of (C, H, W), with its name."""
    names = "CHW" if axes == 3 else "CDHW"
    for order in itertools.permutations(range(1, axes + 1)):
        if order != tuple(range(1, axes + 1)):
            yield order, "(" + ", ".join(names[axis - 1] for axis in order) + ")"


def _channels_reversed(layer: Layer, _other: Layer) -> Variant:
    """Images with blue before green before red."""
    value = layer.inputs[0]
    if value.shape[1] == 3 and layer.settings.get("groups") == 1:
        yield "the image's channels are reversed", replace(layer, inputs=(value[:, ::-1],))


def _input_scalings(layer: Layer, _other: Layer) -> Variant:
    """The model's first layer on images that are scaled in another way."""
    if not layer.settings.get("is_first"):
        return
    value = np.asarray(layer.inputs[0], np.float64)
    scalings: dict[str, tuple[Any, Any]] = {
        "divided by 255": (0.0, 255.0),
        "multiplied by 255": (0.0, 1 / 255),
        "scaled from 0..1 to -1..1": (0.5, 0.5),
        "scaled from -1..1 to 0..1": (-1.0, 2.0),
        "scaled from 0..255 to -1..1": (127.5, 127.5),
    }
    if value.ndim == 4 and value.shape[1] == 3:
        for name, mean, std in (
            ("ImageNet's", IMAGENET_MEAN, IMAGENET_STD),
            ("CIFAR-100's", CIFAR_MEAN, CIFAR_STD),
        ):
            mean_map, std_map = np.reshape(mean, (1, 3, 1, 1)), np.reshape(std, (1, 3, 1, 1))
            scalings[f"normalised with {name} mean and deviation"] = (mean_map, std_map)
            scalings[f"not normalised with {name} mean and deviation"] = (
                -mean_map / std_map,
                1 / std_map,
            )
            scalings[f"divided by 255 and normalised with {name} mean and deviation"] = (
                mean_map * 255,
                std_map * 255,
            )
    for name, (mean, std) in scalings.items():
        yield f"the input is {name}", replace(layer, inputs=((value - mean) / std,))


def _padding_sides(layer: Layer, _other: Layer) -> Variant:
    """The same number of pixels, added before and after in another way; and no padding."""
    padding = layer.settings.get("padding")
    if padding is None:
        return
    totals = [low + high for low, high in padding]
    options = {
        "after each axis only": tuple((0, total) for total in totals),
        "before each axis only": tuple((total, 0) for total in totals),
        "as TensorFlow's SAME": _tensorflow_same(layer),
        "on both sides, the odd one last": tuple((t // 2, t - t // 2) for t in totals),
        "on both sides, the odd one first": tuple((t - t // 2, t // 2) for t in totals),
        "nowhere": tuple((0, 0) for _ in totals),
    }
    tried = {tuple(padding)}
    for name, pairs in options.items():
        if pairs not in tried:
            tried.add(pairs)
            yield f"padding is added {name}", layer.with_settings(padding=pairs)


def _tensorflow_same(layer: Layer) -> tuple[tuple[int, int], ...]:
    """Return TensorFlow's SAME padding: ceil(size / stride) positions, the odd pixel last."""
    sizes = layer.inputs[0].shape[2:]
    kernel = (
        layer.params["weight"].shape[2:] if "weight" in layer.params else layer.settings["size"]
    )
    return same_padding(sizes, kernel, layer.settings["stride"], layer.settings.get("dilation"))


def _padding_modes(layer: Layer, _other: Layer) -> Variant:
    """Borders that are not filled with zeros, and the other way round."""
    mode = layer.settings.get("padding_mode", "zeros")
    for other_mode in ("zeros", "reflect", "replicate", "circular"):
        if other_mode != mode and any(map(any, layer.settings["padding"])):
            yield f"the padding is {other_mode}", layer.with_settings(padding_mode=other_mode)


def _max_pool_fill(layer: Layer, _other: Layer) -> Variant:
    """A max pool whose border counts as zeros."""
    if any(map(any, layer.settings.get("padding", ()))):
        yield "the border is filled with zeros", layer.with_settings(fill=0.0)


def _average_of_padding(layer: Layer, _other: Layer) -> Variant:
    """An average pool that counts its border, or does not."""
    if any(map(any, layer.settings.get("padding", ()))):
        counts = not layer.settings.get("count_padding", True)
        word = "counted" if counts else "not counted"
        yield f"the padding is {word}", layer.with_settings(count_padding=counts)


def _pool_kinds(layer: Layer, other: Layer) -> Variant:
    """A max pool in the place of a mean pool, and the other way round."""
    kind = "mean_pool" if layer.kind == "max_pool" else "max_pool"
    settings = other.settings if other.kind == kind else layer.settings
    yield f"a {kind.replace('_', ' ')} in its place", replace(layer, kind=kind, settings=settings)


INPUT_VARIANTS: dict[str, Variants] = {
    "flatten order": _flatten_orders,
    "channels reversed (RGB, BGR)": _channels_reversed,
    "input scaling": _input_scalings,
    "padding on one side": _padding_sides,
    "padding value": _padding_modes,
    "padding of a max pool": _max_pool_fill,
    "padding counted in an average pool": _average_of_padding,
    "kind of pool": _pool_kinds,
}
"""Name of a known difference -> function that yields variants."""
