"""What lies on a trunk: a classifier as this family has it, another head, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.formats.layout import Layout
from pymobilenet.weights.state import truncate

DRAWN = "drawn anew"
"""The value of the metadata `CLASSIFIER` of a model whose classifier has learnt nothing yet."""

CLASSIFIER = "classifier"

DEFAULT_CLASSES = 1000
"""Classes of a classifier that is drawn for a trunk without one; `MobileNetConfig`'s default."""


@dataclass(frozen=True)
class Head:
    """What the file has on its trunk.

    Attributes:
        weight, bias: (classes, features) and (classes,); None where they have to be drawn.
        names: Canonical name -> the file's name, of what was taken.
        num_classes: Of the classifier; None where the file shows none.
        left: Names that were left behind.
        note: A sentence for the report; empty where the head is the family's own.
    """

    weight: np.ndarray | None
    bias: np.ndarray | None
    names: Mapping[str, str]
    num_classes: int | None
    left: tuple[str, ...] = ()
    note: str = ""


def read_head(
    tensors: Mapping[str, np.ndarray], beside: Sequence[str], layout: Layout, features: int
) -> Head:
    """The head among the names `beside` a trunk that ends in so many `features`.

    It is taken where it is one linear layer, or a 1x1 convolution, and nothing else.
    """
    linear = [name for name in beside if _is_linear(tensors[name])]
    weights = {name: _canonical(layout, tensors[name]) for name in linear}
    if not beside:
        return Head(None, None, {}, None, note="the file has no classifier")
    if len(linear) == 1 and weights[linear[0]].shape[1] == features:
        (name,) = linear
        rest = [other for other in beside if other != name]
        classes = weights[name].shape[0]
        biases = [other for other in rest if tensors[other].shape == (classes,)]
        if not rest:
            bias = np.zeros(classes, weights[name].dtype)
            note = f"{name} has no bias: zeros take its place"
            return Head(weights[name], bias, {"classifier.weight": name}, classes, note=note)
        if len(rest) == 1 and biases:
            names = {"classifier.weight": name, "classifier.bias": rest[0]}
            return Head(weights[name], tensors[rest[0]], names, classes)
    dense = [name for name in linear if tensors[name].ndim == 2]
    classes = weights[dense[-1]].shape[0] if dense else None
    note = (
        "the file's own head is not one linear layer on the trunk and stays behind "
        f"({truncate(list(beside), most=3)})"
    )
    return Head(None, None, {}, classes, tuple(beside), note)


def _is_linear(tensor: np.ndarray) -> bool:
    one_by_one = tensor.ndim == 4 and (tensor.shape[:2] == (1, 1) or tensor.shape[2:] == (1, 1))
    return tensor.ndim == 2 or one_by_one


def _canonical(layout: Layout, tensor: np.ndarray) -> np.ndarray:
    """(classes, features)."""
    if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) and not layout.channels_last:
        tensor = tensor[:, :, 0, 0]
    return np.ascontiguousarray(layout.from_peer("classifier.weight", tensor))


def resolve_parametrizations(
    tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Replace the tensors that torch computes a weight from by the weight.

    Pruning (``weight_orig``, ``weight_mask``; torch/nn/utils/prune.py) and weight norm
    (``weight_g``, ``weight_v``; ``parametrizations.weight.original0`` and ``1``;
    torch/nn/utils/parametrizations.py), whose norm is over all axes but the first.
    """
    result: dict[str, np.ndarray] = {}
    replaced: list[str] = []
    for name, tensor in tensors.items():
        for ending, other, whole in _PARAMETRIZED:
            if name.endswith(ending) and (partner := _swap(name, ending, other)) in tensors:
                weight = _swap(name, ending, whole)
                combine = _prune if ending == "weight_orig" else _weight_norm
                result[weight] = combine(tensor, tensors[partner])
                replaced.append(weight)
                break
        else:
            if not re.search(_SECOND, name) or _partner(name) not in tensors:
                result[name] = tensor
    note = f"{len(replaced)} weights were computed from their parametrization"
    return result, (f"{note} ({truncate(replaced, most=2)})",) if replaced else ()


_PARAMETRIZED = (
    ("weight_orig", "weight_mask", "weight"),
    ("weight_g", "weight_v", "weight"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1", "weight"),
)
_SECOND = r"(weight_mask|weight_v|parametrizations\.weight\.original1)$"


def _partner(name: str) -> str:
    first, second, _ = next(row for row in _PARAMETRIZED if name.endswith(row[1]))
    return _swap(name, second, first)


def _swap(name: str, ending: str, other: str) -> str:
    return name[: len(name) - len(ending)] + other


def _prune(weight: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return weight * mask.astype(weight.dtype)


def _weight_norm(size: np.ndarray, direction: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, direction.ndim))
    norm = np.sqrt((direction.astype(np.float64) ** 2).sum(axis=axes, keepdims=True))
    return (direction * (size.astype(np.float64) / norm)).astype(direction.dtype)
