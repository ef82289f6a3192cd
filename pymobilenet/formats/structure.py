"""Which tensor is which where the names say nothing: by order, shapes, and groups of tensors.

A MobileNet's tensors are, in the order of its layers, a convolution's weight, perhaps its bias, and
the four vectors of a norm; last come a classifier's. Convolutions and norms are paired in their
order, whether each norm follows its convolution or all norms of a block follow all convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pymobilenet.architecture import Layer, layers
from pymobilenet.config import FAMILIES, MobileNetConfig
from pymobilenet.errors import WeightsError
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
"""What a norm's tensors are called in torch, TensorFlow, Haiku, Flax, Flux; and here."""

BY_ORDER = (
    "the tensors of a norm were told apart by their order, taken for weight, bias, running_mean, "
    "running_var; --map says otherwise"
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
    """The one net of these families whose trunk has these tensors, or why there is none.

    Args:
        tensors: In the order of the file.
        is_ordered: Whether that is the order of the layers; if not, the numbers in the names are
            what there is of an order, and each norm must stand beside its convolution.
    """
    floats = {n: t for n, t in tensors.items() if t.ndim and t.dtype.kind == "f"}
    if not is_ordered:
        floats = {name: floats[name] for name in sorted(floats, key=_natural)}
    convolutions = [name for name, tensor in floats.items() if tensor.ndim == 4]
    reasons = []
    for layout in (TORCH_AXES, KERAS_AXES):
        for family in FAMILIES:
            rows = layers(MobileNetConfig(family))
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
    """The trunk's convolutions in the order of `rows`, or the first one that does not fit."""
    names = list(convolutions)
    if not is_ordered and len(names) >= len(rows):
        names = _stem_first(tensors, names, layout)
    if len(names) == len(rows) + 1 and _kind(tensors[names[-1]], layout) == "pointwise":
        names.pop()  # a classifier that is a 1x1 convolution
    if len(names) != len(rows):
        return f"has {len(rows)} convolutions, not {len(names)}"
    width = None
    for name, row in zip(names, rows, strict=True):
        kind = "stem" if row.role == "stem" else "depthwise" if row.groups > 1 else "pointwise"
        inputs, outputs = _channels(tensors[name], layout)
        if _kind(tensors[name], layout) not in (kind, "either" if kind != "pointwise" else kind):
            return f"has {row.name} where {name} of shape {tensors[name].shape} stands"
        expected = 1 if kind == "depthwise" else width
        if kind != "stem" and (inputs != expected or (kind == "depthwise" and outputs != width)):
            return f"has {row.name} of {width} channels where {name} is {tensors[name].shape}"
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
    """(inputs of a group, outputs)."""
    if not layout.channels_last:
        return tensor.shape[1], tensor.shape[0]
    inputs, outputs = tensor.shape[2:]
    return (1, inputs) if outputs == 1 and tensor.shape[:2] == (3, 3) else (inputs, outputs)


def _stem_first(tensors: Mapping[str, np.ndarray], names: list[str], layout: Layout) -> list[str]:
    """Sorted names with the one full 3x3 convolution in front."""
    stems = [name for name in names if _kind(tensors[name], layout) == "stem"]
    if len(stems) != 1:
        return names
    return [stems[0], *(name for name in names if name != stems[0])]


def _units(
    tensors: Mapping[str, np.ndarray], trunk: Sequence[str], is_ordered: bool
) -> list[_Unit] | str:
    """Each convolution of the trunk with its norm's four vectors, or why that cannot be."""
    vectors = [name for name, tensor in tensors.items() if tensor.ndim == 1]
    biases = {name: _bias_of(name, vectors) for name in trunk}
    taken = set(biases.values())
    norms = _norms_by_name([name for name in vectors if name not in taken])
    order = list(tensors)
    if norms is None or len(norms) < len(trunk):
        if not is_ordered:
            return "its norms' tensors have names that do not tell them apart"
        norms, biases = _norms_by_order(tensors, trunk, order)
    if len(norms) < len(trunk):
        return f"{len(trunk)} convolutions have {len(norms)} norms of four vectors"
    if not is_ordered:
        norms = _beside(trunk, norms)
        if norms is None:
            return "the numbers in its names do not put norms beside their convolutions"
    units = []
    for name, norm in zip(trunk, norms, strict=False):
        if any(tensors[vector].shape != tensors[norm[0]].shape for vector in norm):
            return f"the vectors of a norm differ in length: {norm}"
        if (tensors[norm[3]] < 0).any():
            return f"{norm[3]} stands where a variance should, and is negative"
        units.append(_Unit(name, biases.get(name), norm))
    return units


def _bias_of(weight: str, vectors: Sequence[str]) -> str | None:
    """The vector of the same module as a convolution's weight."""
    module = _module(weight)
    same = [name for name in vectors if module and _module(name) == module]
    return same[0] if len(same) == 1 else None


def _norms_by_name(vectors: Sequence[str]) -> list[tuple[str, ...]] | None:
    """The four vectors of each module that has them under names that tell."""
    groups: dict[str, dict[str, str]] = {}
    for name in vectors:
        role = LEAVES.get(_leaf(name).partition(":")[0])
        if role is None:
            continue
        groups.setdefault(_module(name), {})[role] = name
    whole = [group for group in groups.values() if len(group) == len(NORM)]
    return [tuple(group[role] for role in NORM) for group in whole] or None


def _norms_by_order(
    tensors: Mapping[str, np.ndarray], trunk: Sequence[str], order: Sequence[str]
) -> tuple[list[tuple[str, ...]], dict[str, str | None]]:
    """Runs of vectors: four are a norm, five a convolution's bias and a norm."""
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


def _beside(trunk: Sequence[str], norms: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]] | None:
    """For each convolution the norm whose name is next to it or shares its module's parent."""
    modules = sorted({*(_module(n) for n in trunk), *(_module(n[0]) for n in norms)}, key=_natural)
    place = {module: index for index, module in enumerate(modules)}
    found = []
    free = {_module(norm[0]): norm for norm in norms}
    for name in trunk:
        module = _module(name)
        after = modules[place[module] + 1] if place[module] + 1 < len(modules) else ""
        if after not in free:
            return None
        found.append(free.pop(after))
    return found


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
        names |= {f"{row.name}.norm.{part}": n for part, n in zip(NORM, unit.norm, strict=True)}
    biases = {u.bias: row.name for row, u in zip(rows, units, strict=True) if u.bias}
    used = {*names.values(), *biases}
    rest = [name for name in tensors if name not in used]
    ignored = [n for n in rest if not tensors[n].ndim or tensors[n].dtype.kind != "f"]
    told = all(LEAVES.get(_leaf(n).partition(":")[0]) for n in names.values())
    return Match(
        layout=layout,
        family=family,
        prefix="",
        names=names,
        beside=tuple(name for name in rest if name not in set(ignored)),
        biases=biases,
        ignored=tuple(ignored),
        notes=() if told else (BY_ORDER,),
    )


def match_map(tensors: Mapping[str, np.ndarray], pairs: Mapping[str, str], source: str) -> Match:
    """The match that a user has written: the file's name -> canonical name.

    ``<unit>.conv.bias`` names a convolution's bias. The axes are torch's, or Keras' where the
    stem's are.

    Raises:
        WeightsError: A name that the file or no net of these families has, or one that is missing.
    """
    absent = [name for name in pairs if name not in tensors]
    if absent:
        raise WeightsError(f"{source}: the map names {absent[0]!r}, which the file does not have")
    inverse = {ours: peer for peer, ours in pairs.items()}
    biases = {
        p: o.removesuffix(".conv.bias") for o, p in inverse.items() if o.endswith("conv.bias")
    }
    names = {ours: peer for ours, peer in inverse.items() if peer not in biases}
    head = {ours: names.pop(ours) for ours in list(names) if ours.startswith("classifier.")}
    for family in FAMILIES:
        wanted = {
            f"{row.name}.{part}"
            for row in layers(MobileNetConfig(family))
            for part in ("conv.weight", *(f"norm.{leaf}" for leaf in NORM))
        }
        if wanted == set(names):
            break
    else:
        raise WeightsError(
            f"{source}: the map must name every tensor of a trunk of {', '.join(FAMILIES)} once, "
            f"as --write-map writes it. Received: {len(names)} names"
        )
    stem = tensors[names["stem.conv.weight"]]
    layout = KERAS_AXES if stem.ndim == 4 and stem.shape[2:] != (3, 3) else TORCH_AXES
    return Match(layout, family, "", names, beside=tuple(head.values()), biases=biases)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by value."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]


def _module(name: str) -> str:
    return name[: -len(_leaf(name)) - 1]


def _leaf(name: str) -> str:
    return re.split(r"[./]", name)[-1]
