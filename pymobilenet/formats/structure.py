"""Pairing of tensors whose names are unknown: by their order, shapes and groups.

A MobileNet's tensors are, in the order of its layers, a convolution's weight, perhaps its bias, and
the four vectors of a norm; last come those of the classifier. Convolutions and norms are paired in
order, whether each norm follows its convolution or all norms of a block follow all convolutions.
The rows of a net are its layers, see `pymobilenet.architecture.layers`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.architecture import TRUNKS, Layer, layers
from pymobilenet.config import FAMILIES, MobileNetConfig
from pymobilenet.formats.keras_layout import from_keras
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.match import Match
from pymobilenet.formats.unit_names import NORM

LEAVES = {
    "weight": "weight",
    "gamma": "weight",
    "scale": "weight",
    "γ": "weight",  # noqa: RUF001
    "bias": "bias",
    "beta": "bias",
    "offset": "bias",
    "shift": "bias",
    "β": "bias",
    "running_mean": "running_mean",
    "moving_mean": "running_mean",
    "mean": "running_mean",
    "mu": "running_mean",
    "μ": "running_mean",
    "running_var": "running_var",
    "moving_variance": "running_var",
    "moving_var": "running_var",
    "variance": "running_var",
    "var": "running_var",
    "sigma2": "running_var",
    "σ²": "running_var",
}
"""Name of a norm's tensor in torch, TensorFlow, Haiku, Flax and Flux -> canonical name."""

BY_ORDER = (
    "the tensors of a norm were identified by their order, assumed to be weight, bias, "
    "running_mean, running_var; --map gives another"
)


def _no_names(_config: MobileNetConfig) -> dict[str, str]:
    return {}


TORCH_AXES = Layout("by structure", FAMILIES, {}, _no_names)
KERAS_AXES = Layout(
    "by structure", FAMILIES, {}, _no_names, from_peer=from_keras, channels_last=True
)


@dataclass(frozen=True)
class _Unit:
    """A convolution and its norm, by the file's names."""

    weight: str
    bias: str | None
    norm: tuple[str, ...]


def match_structure(tensors: Mapping[str, np.ndarray], is_ordered: bool) -> Match | str:
    """Pair tensors with the trunk of a net of these families.

    Args:
        tensors: Name -> array, in the order of the file.
        is_ordered: Whether that is the order of the layers. If not, the tensors are sorted by the
            numbers in their names, and each norm must be next to its convolution.

    Returns:
        The match, or the reason why no net fits.
    """
    floats = {
        name: tensor for name, tensor in tensors.items() if tensor.ndim and tensor.dtype.kind == "f"
    }
    if not is_ordered:
        floats = {name: floats[name] for name in sorted(floats, key=_natural)}
    convolutions = [name for name, tensor in floats.items() if tensor.ndim == 4]
    reasons = []
    for layout in (TORCH_AXES, KERAS_AXES):
        for config in TRUNKS:
            family, rows = config.family, layers(config)
            trunk = _in_order(floats, convolutions, rows, layout, is_ordered)
            if isinstance(trunk, str):
                reasons.append((len(rows), f"{family} {trunk}"))
                continue
            units = _units(floats, trunk, is_ordered)
            if isinstance(units, str):
                return units
            return _match(layout, family, rows, units, tensors)
    return min(reasons, key=lambda reason: abs(reason[0] - len(convolutions)))[1]


def _in_order(
    tensors: Mapping[str, np.ndarray],
    convolutions: Sequence[str],
    rows: Sequence[Layer],
    layout: Layout,
    is_ordered: bool,
) -> list[str] | str:
    """Return the trunk's convolutions in the order of `rows`, or why they do not fit."""
    names = list(convolutions)
    if not is_ordered and len(names) >= len(rows):
        names = _stem_first(tensors, names, layout)
    has_linear = any(tensor.ndim == 2 for tensor in tensors.values())
    is_longer = len(names) == len(rows) + 1 and _kind(tensors[names[-1]], layout) == "pointwise"
    if is_longer and not has_linear:
        names.pop()  # a classifier that is a 1x1 convolution
    if len(names) != len(rows):
        return f"has {len(rows)} convolutions, not {len(names)}"
    width = None
    for name, row in zip(names, rows, strict=True):
        kind = "stem" if row.role == "stem" else "depthwise" if row.groups > 1 else "pointwise"
        inputs, outputs = _channels(tensors[name], layout)
        if _kind(tensors[name], layout) not in (kind, "either" if kind != "pointwise" else kind):
            return f"has {row.name} at the position of {name} of shape {tensors[name].shape}"
        expected = 1 if kind == "depthwise" else width
        if kind != "stem" and (inputs != expected or (kind == "depthwise" and outputs != width)):
            return f"has {row.name} of {width} channels, but {name} has shape {tensors[name].shape}"
        width = outputs
    return names


def _kind(tensor: np.ndarray, layout: Layout) -> str:
    inputs, _ = _channels(tensor, layout)
    kernel = tensor.shape[:2] if layout.channels_last else tensor.shape[2:]
    if kernel == (1, 1):
        return "pointwise"
    if kernel != (3, 3):
        return "other"
    return "either" if inputs == 1 else "stem"  # a stem of one channel looks like a depthwise one


def _channels(tensor: np.ndarray, layout: Layout) -> tuple[int, int]:
    """Return (input channels of a group, output channels)."""
    if not layout.channels_last:
        return tensor.shape[1], tensor.shape[0]
    inputs, outputs = tensor.shape[2:]
    return (1, inputs) if outputs == 1 and tensor.shape[:2] == (3, 3) else (inputs, outputs)


def _stem_first(tensors: Mapping[str, np.ndarray], names: list[str], layout: Layout) -> list[str]:
    """Return the names with that of the only 3x3 convolution without groups first."""
    stems = [name for name in names if _kind(tensors[name], layout) == "stem"]
    if len(stems) != 1:
        return names
    return [stems[0], *(name for name in names if name != stems[0])]


def _units(
    tensors: Mapping[str, np.ndarray], trunk: Sequence[str], is_ordered: bool
) -> list[_Unit] | str:
    """Return each convolution of the trunk with its norm's four vectors, or why they do not fit."""
    vectors = [name for name, tensor in tensors.items() if tensor.ndim == 1]
    biases = {name: _bias_of(name, vectors) for name in trunk}
    bias_names = set(biases.values())
    norms = _norms_by_name([name for name in vectors if name not in bias_names])
    order = list(tensors)
    if norms is None or len(norms) < len(trunk):
        if not is_ordered:
            return "the names of its norms' tensors do not identify them"
        norms, biases = _norms_by_order(tensors, trunk, order)
    if len(norms) < len(trunk):
        return f"{len(trunk)} convolutions have {len(norms)} norms of four vectors"
    if not is_ordered:
        norms = _norms_after_convolutions(trunk, norms)
        if norms is None:
            return "the numbers in its names do not place norms next to their convolutions"
    units = []
    for name, norm in zip(trunk, norms, strict=False):
        if any(tensors[vector].shape != tensors[norm[0]].shape for vector in norm):
            return f"the vectors of a norm differ in length: {norm}"
        if (tensors[norm[3]] < 0).any():
            return f"{norm[3]} is at the position of a variance, and negative"
        units.append(_Unit(name, biases.get(name), norm))
    return units


def _bias_of(weight: str, vectors: Sequence[str]) -> str | None:
    """Return the only vector of the module of a convolution's weight."""
    module = _module(weight)
    same = [name for name in vectors if module and _module(name) == module]
    return same[0] if len(same) == 1 else None


def _norms_by_name(vectors: Sequence[str]) -> list[tuple[str, ...]] | None:
    """Return the four vectors of each module that has them under names in `LEAVES`."""
    groups: dict[str, dict[str, str]] = {}
    for name in vectors:
        leaf = LEAVES.get(_leaf(name).partition(":")[0])
        if leaf is None:
            continue
        groups.setdefault(_module(name), {})[leaf] = name
    norms = [group for group in groups.values() if len(group) == len(NORM)]
    return [tuple(norm[leaf] for leaf in NORM) for norm in norms] or None


def _norms_by_order(
    tensors: Mapping[str, np.ndarray], trunk: Sequence[str], order: Sequence[str]
) -> tuple[list[tuple[str, ...]], dict[str, str | None]]:
    """Return norms and biases: of successive vectors, 4 are a norm, 5 a bias and a norm."""
    norms: list[tuple[str, ...]] = []
    biases: dict[str, str | None] = {}
    last, run = "", []
    for name in [*order, ""]:
        if name and tensors[name].ndim == 1:
            run.append(name)
            continue
        if len(run) % 4 == 1 and last in trunk and len(run) > 1:
            biases[last] = run.pop(0)
        norms += [tuple(run[i : i + 4]) for i in range(0, len(run) - 3, 4)]
        last, run = name, []
    return norms, biases


def _norms_after_convolutions(
    trunk: Sequence[str], norms: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]] | None:
    """Return for each convolution the norm whose module is the next one in natural order."""
    norm_of = {_module(norm[0]): norm for norm in norms}
    modules = sorted({*(_module(name) for name in trunk), *norm_of}, key=_natural)
    following = dict(itertools.pairwise(modules))
    ordered = []
    for name in trunk:
        module = following.get(_module(name), "")
        if module not in norm_of:
            return None
        ordered.append(norm_of.pop(module))
    return ordered


def _match(
    layout: Layout,
    family: str,
    rows: Sequence[Layer],
    units: Sequence[_Unit],
    tensors: Mapping[str, np.ndarray],
) -> Match:
    names: dict[str, str] = {}
    for row, unit in zip(rows, units, strict=True):
        names[f"{row.name}.conv.weight"] = unit.weight
        names |= {
            f"{row.name}.norm.{leaf}": name for leaf, name in zip(NORM, unit.norm, strict=True)
        }
    biases = {unit.bias: row.name for row, unit in zip(rows, units, strict=True) if unit.bias}
    used = {*names.values(), *biases}
    rest = [name for name in tensors if name not in used]
    ignored = [n for n in rest if not tensors[n].ndim or tensors[n].dtype.kind != "f"]
    are_named = all(LEAVES.get(_leaf(name).partition(":")[0]) for name in names.values())
    return Match(
        layout=layout,
        family=family,
        prefix="",
        names=names,
        head_names=tuple(name for name in rest if name not in set(ignored)),
        biases=biases,
        ignored=tuple(ignored),
        notes=() if are_named else (BY_ORDER,),
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers in names by value."""
    return [
        (0, int(piece), "") if piece.isdigit() else (1, 0, piece)
        for piece in re.split(r"(\d+)", name)
        if piece
    ]


def _module(name: str) -> str:
    return name[: -len(_leaf(name)) - 1]


def _leaf(name: str) -> str:
    return re.split(r"[./]", name)[-1]
