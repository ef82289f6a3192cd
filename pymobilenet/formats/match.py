"""Detection of a file's layout by its tensor names.

The trunk is all layers before the classifier. The anchor of a layout is the name of its stem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pymobilenet.architecture import TRUNKS
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.formats.layout import Layout
from pymobilenet.weights.state import truncate

NEAREST = 0.8
"""The fraction of a layout's names that a file must have to be called the nearest layout."""


@dataclass(frozen=True)
class Match:
    """How the names in a file pair with those of a layout.

    Attributes:
        layout: The layout.
        family: The family of `MobileNetConfig`.
        prefix: The text before the layout's name in every name of the trunk.
        names: Canonical name -> name in the file, of the trunk.
        missing: Names of the layout's trunk that the file lacks.
        unexpected: Names in the file's trunk that the layout lacks.
        head_names: Names outside the trunk: those of the classifier or another head.
        classifier: The name in the file of the classifier's weight; "" if it has another head.
        biases: Name in the file of a convolution's bias -> canonical name of the unit.
        ignored: Names in the file that are no part of the model.
        notes: Notes for the report on how the names were paired.
    """

    layout: Layout
    family: str
    prefix: str
    names: Mapping[str, str]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    head_names: tuple[str, ...] = ()
    classifier: str = ""
    biases: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the trunk is complete and has no unexpected tensors."""
        return not self.missing and not self.unexpected

    @property
    def title(self) -> str:
        """Layout and family, for messages: "timm v2"."""
        return f"{self.layout.name} {self.family}"


def match_layouts(
    tensors: Mapping[str, np.ndarray], layouts: Sequence[Layout], which: str | None, source: str
) -> Match | None:
    """Return the one layout and prefix whose trunk a file has.

    Args:
        tensors: Name -> array, all of the file.
        layouts: The layouts to try.
        which: A part of the prefix, if several models are in the file.
        source: The file, for messages.

    Returns:
        The match, or None if no layout fits.

    Raises:
        WeightsError: The file has several models, or names of several layouts.
    """
    fits = _without_shorter([trial for trial in _trials(tensors, layouts) if trial.fits])
    if which is not None and len(fits) > 1:
        fits = [trial for trial in fits if which in trial.prefix] or fits
    if len(fits) > 1 and len({trial.prefix for trial in fits}) > 1:
        fits = _without_copies(fits, tensors, source)
    if len(fits) > 1:
        best = [trial for trial in fits if trial.classifier]
        fits = best if len(best) == 1 else fits
    if len(fits) > 1:
        titles = " and ".join(dict.fromkeys(trial.title for trial in fits))
        raise WeightsError(f"{source}: its names are those of {titles}; select one with --from")
    return fits[0] if fits else None


def _without_shorter(fits: list[Match]) -> list[Match]:
    """Return the matches whose trunk is no part of another match's, as V1's is of 100h's."""
    trunks = [set(trial.names.values()) for trial in fits]
    return [
        trial
        for trial, names in zip(fits, trunks, strict=True)
        if not any(names < other for other in trunks)
    ]


def no_match_error(
    tensors: Mapping[str, np.ndarray], layouts: Sequence[Layout], source: str, reason: str
) -> WeightsError:
    """Return the error that states why no layout fits.

    Args:
        tensors: Name -> array, all of the file.
        layouts: The layouts that were tried.
        source: The file.
        reason: Why the structure of the tensors fits no net; used if no layout is `NEAREST`.
    """
    known = " or ".join(dict.fromkeys(layout.name for layout in layouts))
    trials = list(_trials(tensors, layouts))
    nearest = max(trials, key=lambda trial: _score(trial), default=None)
    other = _other_family(tensors)
    if other:
        return WeightsError(f"{source}: {other}")
    if nearest is None or len(nearest.names) < NEAREST * (
        len(nearest.names) + len(nearest.missing)
    ):
        return WeightsError(
            f"{source}: its names are none of {known}, and by structure it is no MobileNet of "
            f"these families: {reason}. Received: {truncate(sorted(tensors))}"
        )
    hint = _hint(nearest)
    return WeightsError(
        f"{source}: its names fit no layout; the nearest is {nearest.title}: missing "
        f"{truncate(nearest.missing)}; left over {truncate(nearest.unexpected)}{hint}"
    )


def _other_family(tensors: Mapping[str, np.ndarray]) -> str:
    """Return the message that a net is of another family; "" if nothing shows it."""
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
    """Return a hint: the last convolution of the trunk is missing, or the hint of the layout."""
    head = _head_names(nearest)
    if head and not nearest.unexpected and set(nearest.missing) <= head:
        return (
            ". The file ends before the trunk's last convolution, as feature extractors do "
            "(features_only=True in timm): save the state dict of the whole net"
        )
    is_deeper = nearest.unexpected and not nearest.missing and nearest.layout.hint
    return f". {nearest.layout.hint}" if is_deeper else ""


def _head_names(nearest: Match) -> set[str]:
    """Return the layout's names of V2's last convolution and its norm."""
    table = nearest.layout.rename(MobileNetConfig(nearest.family))
    return {peer for name, peer in table.items() if name.startswith("head.")}


def _score(trial: Match) -> int:
    return len(trial.names) - len(trial.missing) - len(trial.unexpected)


def _trials(tensors: Mapping[str, np.ndarray], layouts: Sequence[Layout]) -> Iterable[Match]:
    """Yield a match, complete or not, for each layout, family and prefix."""
    for layout in layouts:
        for trunk_config in filter(layout.has, TRUNKS):
            table = layout.rename(trunk_config)
            trunk = {name: peer for name, peer in table.items() if "classifier." not in name}
            common = _common(trunk.values())
            for stripped in ("", common) if common and not layout.needs_prefix else ("",):
                names = {name: peer[len(stripped) :] for name, peer in trunk.items()}
                for prefix in _prefixes(names["stem.conv.weight"], tensors):
                    trial = _pair(layout, trunk_config.family, prefix, names, tensors)
                    classifier = table["classifier.weight"]
                    yield _with_classifier(trial, tensors, classifier, bool(stripped))


def _prefixes(anchor: str, names: Iterable[str]) -> list[str]:
    """Return the prefixes of the names that end with `anchor`."""
    ends = [name[: -len(anchor)] for name in names if name.endswith(anchor)]
    return [prefix for prefix in ends if not prefix or prefix[-1] in "./"]


def _pair(
    layout: Layout,
    family: str,
    prefix: str,
    expected: Mapping[str, str],
    tensors: Mapping[str, np.ndarray],
) -> Match:
    names = {name: prefix + peer for name, peer in expected.items() if prefix + peer in tensors}
    used = set(names.values())
    biases = {
        _sibling(peer, "bias"): name.removesuffix(".conv.weight")
        for name, peer in names.items()
        if name.endswith(".conv.weight") and _sibling(peer, "bias") in tensors
    }
    others = [name for name in tensors if name not in used and name not in biases]
    ignored = [name for name in others if _is_ignored(name, tensors[name], layout)]
    rest = [name for name in others if name not in set(ignored)]
    firsts = {_first(peer) for peer in expected.values()}
    unexpected = [n for n in rest if n.startswith(prefix) and _first(n[len(prefix) :]) in firsts]
    return Match(
        layout=layout,
        family=family,
        prefix=prefix,
        names=names,
        missing=tuple(peer for name, peer in expected.items() if name not in names),
        unexpected=tuple(unexpected),
        head_names=tuple(name for name in rest if name not in set(unexpected)),
        biases=biases,
        ignored=tuple(sorted(ignored)),
    )


def _with_classifier(
    trial: Match, tensors: Mapping[str, np.ndarray], classifier: str, stripped: bool
) -> Match:
    """Return the trial with the classifier's name, and with further convolutions as unexpected."""
    leaf = _first(classifier[::-1])[::-1]
    modules = (classifier[: -len(leaf) - 1], *trial.layout.classifiers)
    candidates = [f"{trial.prefix}{module}{classifier[-len(leaf) - 1 :]}" for module in modules]
    known = [name for name in candidates if name in tensors and name in trial.head_names]
    convolutions = [
        name
        for name in trial.head_names
        if stripped and name.startswith(trial.prefix) and tensors[name].ndim == 4
    ]
    return replace(
        trial,
        classifier=known[0] if known else "",
        unexpected=(*trial.unexpected, *convolutions),
    )


def _without_copies(
    fits: list[Match], tensors: Mapping[str, np.ndarray], source: str
) -> list[Match]:
    """Return the first of several models in a file, if all are equal.

    Raises:
        WeightsError: The models differ.
    """
    first = fits[0]

    def is_copy(other: Match) -> bool:
        return all(
            np.array_equal(tensors[first.names[name]], tensors[peer])
            for name, peer in other.names.items()
            if name in first.names
        )

    if len({trial.title for trial in fits}) == 1 and all(is_copy(other) for other in fits[1:]):
        return [first]
    prefixes = ", ".join(repr(trial.prefix) for trial in fits)
    raise WeightsError(
        f"{source}: holds more than one model, under the prefixes {prefixes}: select one "
        "with --which PREFIX"
    )


def _is_ignored(name: str, tensor: np.ndarray, layout: Layout) -> bool:
    """Return whether the layout ignores a name, or the tensor is a scalar, as counters are."""
    return tensor.ndim == 0 or bool(layout.ignored and re.fullmatch(layout.ignored, name))


def _sibling(name: str, leaf: str) -> str:
    """Return the name of another tensor of the same module."""
    return name[: len(name) - len(_leaf(name))] + leaf


def _leaf(name: str) -> str:
    return re.split(r"[./]", name)[-1]


def _first(name: str) -> str:
    return re.split(r"[./]", name)[0]


def _common(names: Iterable[str]) -> str:
    """Return the complete components that all names begin with: ``features.``."""
    all_names = list(names)
    prefix = ""
    for component in re.findall(r"[^./]+[./]", all_names[0]):
        if not all(name.startswith(prefix + component) for name in all_names):
            break
        prefix += component
    return prefix
