"""Which layout a file's names are, under which prefix, and what lies beside the trunk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.formats.layout import Layout
from pymobilenet.weights.state import truncate

MOSTLY = 0.8
"""The share of a layout's names that a file must have for the layout to be called the nearest."""


@dataclass(frozen=True)
class Match:
    """How a file's names pair with a layout's.

    Attributes:
        layout, family: Of the names.
        prefix: What every name of the trunk has before the layout's own name.
        names: Canonical name -> the file's name, of the trunk: all but the classifier.
        missing: The layout's names that the file does not have, without the classifier's.
        inside: Names within the trunk that the layout does not have.
        beside: Names outside of it: the classifier's, or those of another head.
        classifier: The name of the classifier's weight where the layout has one and the file too.
        biases: Names of a bias of a convolution -> canonical name of the unit.
        ignored: Names that carry nothing of the model.
        notes: How the pairs were found, where that needs to be said.
        norm_names_known: False where the order alone tells a norm's tensors apart.
    """

    layout: Layout
    family: str
    prefix: str
    names: Mapping[str, str]
    missing: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    classifier: str = ""
    biases: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the trunk is whole and nothing else is in it."""
        return not self.missing and not self.inside

    @property
    def title(self) -> str:
        return f"{self.layout.name} {self.family}"


def match_layouts(
    tensors: Mapping[str, np.ndarray], layouts: Sequence[Layout], which: str | None, source: str
) -> Match | None:
    """The one layout and prefix whose trunk is in `tensors`; None where there is none.

    Args:
        tensors: Arrays by name.
        layouts: To try.
        which: A part of the prefix, where several models are in the file.
        source: The file, for messages.

    Raises:
        WeightsError: Several models, or names of several layouts.
    """
    fits = [trial for trial in _trials(tensors, layouts) if trial.fits]
    if which is not None and len(fits) > 1:
        fits = [trial for trial in fits if which in trial.prefix] or fits
    if len(fits) > 1 and len({trial.prefix for trial in fits}) > 1:
        fits = _without_copies(fits, tensors, source)
    if len(fits) > 1:
        best = [trial for trial in fits if trial.classifier]
        fits = best if len(best) == 1 else fits
    if len(fits) > 1:
        titles = " and ".join(dict.fromkeys(trial.title for trial in fits))
        raise WeightsError(f"{source}: its names are those of {titles}; say which with --from")
    return fits[0] if fits else None


def refusal(
    tensors: Mapping[str, np.ndarray], layouts: Sequence[Layout], source: str, structure: str
) -> WeightsError:
    """Say why no layout fits: by the nearest one, if one is near, else by `structure`."""
    known = " or ".join(dict.fromkeys(layout.name for layout in layouts))
    trials = list(_trials(tensors, layouts))
    nearest = max(trials, key=lambda t: _score(t), default=None)
    other = _other_family(tensors)
    if other:
        return WeightsError(f"{source}: {other}")
    if nearest is None or len(nearest.names) < MOSTLY * (len(nearest.names) + len(nearest.missing)):
        return WeightsError(
            f"{source}: its names are none of {known}, and by structure it is no MobileNet of "
            f"these families: {structure}. Received: {truncate(sorted(tensors))}"
        )
    hint = _hint(nearest)
    return WeightsError(
        f"{source}: its names fit no layout; the nearest is {nearest.title}: missing "
        f"{truncate(nearest.missing)}; left over {truncate(nearest.inside)}{hint}"
    )


def _other_family(tensors: Mapping[str, np.ndarray]) -> str:
    """What shows that a net is of another family; empty where nothing does."""
    larger = [n for n, t in tensors.items() if t.ndim == 4 and t.shape[2:] in ((5, 5), (7, 7))]
    squeezes = [name for name in tensors if re.search(r"(^|[./])se([./_]|$)", name)]
    if squeezes:
        sign = f"squeeze-and-excitation ({squeezes[0]}), as MobileNetV3 and EfficientNet have"
    elif larger:
        sign = f"a kernel larger than 3x3 ({larger[0]})"
    else:
        return ""
    return (
        f"it has {sign}, which is in no MobileNet V1 or V2. Received: {truncate(sorted(tensors))}"
    )


def _hint(nearest: Match) -> str:
    """What the file may be: a trunk without its last convolution, or what the layout says."""
    head = _names_of_head(nearest)
    if head and not nearest.inside and set(nearest.missing) <= head:
        return (
            ". The file ends before the trunk's last convolution, as feature extractors do "
            "(features_only=True in timm): save the state dict of the whole net"
        )
    is_deeper = nearest.inside and not nearest.missing and nearest.layout.hint
    return f". {nearest.layout.hint}" if is_deeper else ""


def _names_of_head(nearest: Match) -> set[str]:
    """The layout's names of V2's last convolution and its norm."""
    table = nearest.layout.rename(MobileNetConfig(nearest.family))
    return {peer for ours, peer in table.items() if ours.startswith("head.")}


def _score(trial: Match) -> int:
    return len(trial.names) - len(trial.missing) - len(trial.inside)


def _trials(tensors: Mapping[str, np.ndarray], layouts: Sequence[Layout]) -> Iterable[Match]:
    for layout in layouts:
        for family in layout.families:
            table = layout.rename(MobileNetConfig(family))
            trunk = {ours: peer for ours, peer in table.items() if "classifier." not in ours}
            own = _common(trunk.values())
            for stripped in ("", own) if own and not layout.needs_prefix else ("",):
                names = {ours: peer[len(stripped) :] for ours, peer in trunk.items()}
                for prefix in _prefixes(names["stem.conv.weight"], tensors):
                    trial = _pair(layout, family, prefix, names, tensors)
                    classifier = table["classifier.weight"]
                    yield _with_classifier(trial, tensors, classifier, bool(stripped))


def _prefixes(anchor: str, names: Iterable[str]) -> list[str]:
    """What stands before `anchor` in the names that end with it."""
    ends = [name[: -len(anchor)] for name in names if name.endswith(anchor)]
    return [prefix for prefix in ends if not prefix or prefix[-1] in "./"]


def _pair(
    layout: Layout,
    family: str,
    prefix: str,
    wanted: Mapping[str, str],
    tensors: Mapping[str, np.ndarray],
) -> Match:
    names = {ours: prefix + peer for ours, peer in wanted.items() if prefix + peer in tensors}
    used = set(names.values())
    biases = {
        _sibling(peer, "bias"): ours.removesuffix(".conv.weight")
        for ours, peer in names.items()
        if ours.endswith(".conv.weight") and _sibling(peer, "bias") in tensors
    }
    others = [name for name in tensors if name not in used and name not in biases]
    ignored = [name for name in others if _is_ignored(name, tensors[name], layout)]
    rest = [name for name in others if name not in set(ignored)]
    firsts = {_first(peer) for peer in wanted.values()}
    inside = [n for n in rest if n.startswith(prefix) and _first(n[len(prefix) :]) in firsts]
    return Match(
        layout=layout,
        family=family,
        prefix=prefix,
        names=names,
        missing=tuple(peer for ours, peer in wanted.items() if ours not in names),
        inside=tuple(inside),
        beside=tuple(name for name in rest if name not in set(inside)),
        biases=biases,
        ignored=tuple(sorted(ignored)),
    )


def _with_classifier(
    trial: Match, tensors: Mapping[str, np.ndarray], classifier: str, stripped: bool
) -> Match:
    """The trial with the classifier's name, and with deeper layers counted as inside."""
    leaf = _first(classifier[::-1])[::-1]
    modules = (classifier[: -len(leaf) - 1], *trial.layout.classifiers)
    candidates = [f"{trial.prefix}{module}{classifier[-len(leaf) - 1 :]}" for module in modules]
    known = [name for name in candidates if name in tensors and name in trial.beside]
    deeper = [
        name
        for name in trial.beside
        if stripped and name.startswith(trial.prefix) and tensors[name].ndim == 4
    ]
    return replace(trial, classifier=known[0] if known else "", inside=(*trial.inside, *deeper))


def _without_copies(
    fits: list[Match], tensors: Mapping[str, np.ndarray], source: str
) -> list[Match]:
    """Refuse several models in one file, but for those that are bit for bit the same."""
    first = fits[0]

    def same(other: Match) -> bool:
        return all(
            np.array_equal(tensors[first.names[ours]], tensors[peer])
            for ours, peer in other.names.items()
            if ours in first.names
        )

    if len({trial.title for trial in fits}) == 1 and all(same(other) for other in fits[1:]):
        return [first]
    prefixes = ", ".join(repr(trial.prefix) for trial in fits)
    raise WeightsError(
        f"{source}: holds more than one model, under the prefixes {prefixes}: say which with "
        "--which PREFIX"
    )


def _is_ignored(name: str, tensor: np.ndarray, layout: Layout) -> bool:
    """Names the layout ignores, and single numbers: counters and the like."""
    return tensor.ndim == 0 or bool(layout.ignored and re.fullmatch(layout.ignored, name))


def _sibling(name: str, leaf: str) -> str:
    """The name of another tensor of the same module."""
    return name[: len(name) - len(_leaf(name))] + leaf


def _leaf(name: str) -> str:
    return re.split(r"[./]", name)[-1]


def _first(name: str) -> str:
    return re.split(r"[./]", name)[0]


def _common(names: Iterable[str]) -> str:
    """The whole components that all names begin with: ``features.``."""
    listed = list(names)
    prefix = ""
    for part in re.findall(r"[^./]+[./]", listed[0]):
        if not all(name.startswith(prefix + part) for name in listed):
            break
        prefix += part
    return prefix
