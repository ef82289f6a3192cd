"""The head of a model in a file: the classifier of these families, another head, or none.

The trunk is all layers before the classifier.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.formats.layout import Layout
from pymobilenet.weights.state import truncate

DRAWN = "drawn anew"
"""The value of the metadata `CLASSIFIER` of a model whose classifier is not trained yet."""

CLASSIFIER = "classifier"

DEFAULT_CLASSES = 1000
"""The number of classes of a new classifier, for a trunk without one; `MobileNetConfig`'s
default."""


@dataclass(frozen=True)
class Head:
    """The head in a file.

    Attributes:
        weight: The classifier's weight, (classes, features); None if a new one is needed.
        bias: The classifier's bias, (classes,); None if a new one is needed.
        names: Canonical name -> name in the file, of the tensors used.
        num_classes: The number of classes; None if the file does not show it.
        unused: Names of the tensors that are not used.
        note: A sentence for the report; "" if the head is the classifier of these families.
    """

    weight: np.ndarray | None
    bias: np.ndarray | None
    names: Mapping[str, str]
    num_classes: int | None
    unused: tuple[str, ...] = ()
    note: str = ""


def read_head(
    tensors: Mapping[str, np.ndarray], head_names: Sequence[str], layout: Layout, features: int
) -> Head:
    """Read the head, which is used if it is one linear layer or one 1x1 convolution.

    Args:
        tensors: Name -> array, all of the file.
        head_names: Names of the tensors outside the trunk.
        layout: The layout of the file, for the axes.
        features: The number of channels that the trunk ends with.

    Returns:
        The head; its weight and bias are None if there is none, or one of another kind.
    """
    linear = [name for name in head_names if _is_linear(tensors[name])]
    weights = {name: _canonical(layout, tensors[name]) for name in linear}
    if not head_names:
        return Head(None, None, {}, None, note="the file has no classifier")
    if len(linear) == 1 and weights[linear[0]].shape[1] == features:
        (name,) = linear
        rest = [other for other in head_names if other != name]
        classes = weights[name].shape[0]
        biases = [other for other in rest if tensors[other].shape == (classes,)]
        if not rest:
            bias = np.zeros(classes, weights[name].dtype)
            note = f"{name} has no bias: zeros are used"
            return Head(weights[name], bias, {"classifier.weight": name}, classes, note=note)
        if len(rest) == 1 and biases:
            names = {"classifier.weight": name, "classifier.bias": rest[0]}
            return Head(weights[name], tensors[rest[0]], names, classes)
    dense = [name for name in linear if tensors[name].ndim == 2]
    classes = weights[dense[-1]].shape[0] if dense else None
    note = (
        "the file's own head is not one linear layer on the trunk and is not used "
        f"({truncate(list(head_names), most=3)})"
    )
    return Head(None, None, {}, classes, tuple(head_names), note)


def _is_linear(tensor: np.ndarray) -> bool:
    one_by_one = tensor.ndim == 4 and (tensor.shape[:2] == (1, 1) or tensor.shape[2:] == (1, 1))
    return tensor.ndim == 2 or one_by_one


def _canonical(layout: Layout, tensor: np.ndarray) -> np.ndarray:
    """Return the classifier's weight with canonical axes: (classes, features)."""
    if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) and not layout.channels_last:
        tensor = tensor[:, :, 0, 0]
    return np.ascontiguousarray(layout.from_peer("classifier.weight", tensor))


def resolve_parametrizations(
    tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Replace each pair of tensors that torch computes a weight from by the weight.

    Supported are pruning (``weight_orig``, ``weight_mask``; torch/nn/utils/prune.py) and weight
    norm (``weight_g``, ``weight_v``; ``parametrizations.weight.original0`` and ``1``;
    torch/nn/utils/parametrizations.py), whose norm is over all axes but the first.

    Args:
        tensors: Name -> array, all of the file.

    Returns:
        Name -> array, with the weights in place of the pairs; and notes for the report.
    """
    result: dict[str, np.ndarray] = {}
    replaced: list[str] = []
    for name, tensor in tensors.items():
        for ending, other, combined in _PARAMETRIZED:
            if name.endswith(ending) and (partner := _swap(name, ending, other)) in tensors:
                weight = _swap(name, ending, combined)
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
"""Endings of the names of the first tensor, the second one and the weight."""

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
