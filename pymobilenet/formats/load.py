"""A model out of any file: container by content, layout by names or structure, config by shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.architecture import layers
from pymobilenet.config import MobileNetConfig
from pymobilenet.data import print_to_stderr
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats.conversion_report import ConversionReport
from pymobilenet.formats.exchange import FORMAT_VERSION
from pymobilenet.formats.heads import CLASSIFIER, DEFAULT_CLASSES, DRAWN, Head, read_head
from pymobilenet.formats.infer_config import infer_config
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.match import Match, match_layouts, refusal
from pymobilenet.formats.origin import BACKGROUND, origin_of_pretrained
from pymobilenet.formats.registry import CONTAINERS, layouts_named
from pymobilenet.formats.sample import Sample, decide
from pymobilenet.formats.settings import Settings, check_settings, complete
from pymobilenet.formats.source import Source, read_source
from pymobilenet.formats.structure import match_map, match_structure
from pymobilenet.formats.torch_layouts import CANONICAL
from pymobilenet.hub import resolve_model_file
from pymobilenet.strict_json import parse_object
from pymobilenet.weights import State, check_state, initial_state, state_shapes
from pymobilenet.weights.state import slots_of, truncate

IMAGENET_NAMES = {1000: "imagenet-1k", 1001: "imagenet-1k-background"}
"""Number of classes -> the key of `evaluation.names.OFFICIAL` by which they are named, where the
file of a project whose published weights are ImageNet's names no classes."""

NAMES_NOTE = "{} classes are named as ImageNet's; --classes FILE gives other names"


@dataclass(frozen=True)
class Loaded:
    """A model read from a file.

    Attributes:
        config, state: As everywhere; the state is canonical, C-contiguous and checked, with moments
            only where the file is this project's own.
        metadata: What else the file says, text by name; without config and format_version.
        report: How the file's tensors were paired, and what was assumed.
    """

    config: MobileNetConfig
    state: State
    metadata: dict[str, str]
    report: ConversionReport


def load_any(
    path: str | Path,
    container: str | None = None,
    layout: str | None = None,
    config: MobileNetConfig | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    sample: Sample | str | Path | None = None,
    which: str | None = None,
    name_map: Mapping[str, str] | None = None,
) -> Loaded:
    """Read a model from a file of this project or of another.

    What neither tensors nor names show comes from the file or a config.json beside it, then from
    `config` and `settings`, then from `sample`, and else is the layout's default: `report.assumed`
    has these.

    Args:
        path: The file, or the name of pretrained weights, see `pymobilenet.hub`. What a file is
            shows in its bytes and in the names in it, never in its suffix.
        container: One of `registry.CONTAINERS`, to read the file as that and nothing else.
        layout: The name of one of `registry.LAYOUTS`, for the same.
        config: All fields of the net's config; what the tensors show must agree with it.
        settings: Some fields of it: ``{"stem_stride": 1}``.
        sample: Inputs and outputs of the original net, or an .npz file of them; see `Sample`.
        which: A state dict of a checkpoint that has several, or a prefix: "ema".
        name_map: The file's names -> canonical names, see `ConversionReport.name_map`.

    Raises:
        WeightsError: A file that is none of these, or not whole; names and shapes that fit no net,
            or more than one; a setting that nobody knows, or one that contradicts the file.
        ConfigError: A container, a layout or a setting that does not exist.
        BackendUnavailable: The container needs a framework that is not there.
        DataError: Pretrained weights that cannot be downloaded.
    """
    path, pretrained = resolve_model_file(path, print_to_stderr)
    if container is not None and container not in CONTAINERS:
        names = ", ".join(CONTAINERS)
        raise ConfigError(f"container must be one of {names}. Received: {container!r}")
    layouts = layouts_named(layout)
    user = dict(check_settings(settings or {}))
    origin = origin_of_pretrained(pretrained) if pretrained else None
    source = read_source(path, container, which, origin)
    own = _own_config(path, source.metadata)
    if own is not None and _has_canonical_names(own, source, str(path)):
        check_floats(own, {**source.tensors, **source.moments}, str(path))
    match = _match(source, layouts, layout, which, name_map)
    if source.moments and match.layout is not CANONICAL:
        raise WeightsError(
            f"{path}: {match.layout.name} has no moments. "
            f"Received: {truncate(sorted(source.moments))}"
        )
    trunk = _trunk(source, match)
    features = trunk[[name for name in trunk if name.endswith("conv.weight")][-1]].shape[0]
    head = read_head(source.tensors, match.beside, match.layout, features)
    if own and config and own != config:
        raise WeightsError(
            f"{path}: its own config is {own.to_json()}. Received: {config.to_json()}"
        )
    said = own.to_dict() if own else dict(source.origin.settings)
    known = Settings(
        file=said,
        said_in="config" if own else source.origin.said_in,
        user={**(config.to_dict() if config else {}), **user},
        sample={},
    )
    inferred = _inferred(path, match, trunk, head, known.known(str(path)))
    decided: tuple[str, ...] = ()
    if sample is not None:
        sample = sample if isinstance(sample, Sample) else Sample.read(sample)
        state = _with_head(inferred, trunk, head)
        known, decided = decide(str(path), sample, inferred, state, match, known)
    new_config, assumed = complete(str(path), inferred, match.layout, known)
    _check_strides(source, new_config)
    state = _with_head(new_config, trunk, head) | source.moments
    check_floats(new_config, state, str(path))
    foreign = own is None
    metadata, scaling = _metadata(source, match, head, foreign)
    naming = IMAGENET_NAMES.get(new_config.num_classes)
    names_assumed = (
        naming is not None
        and foreign
        and head.weight is not None
        and keys.CLASSES not in metadata
        and match.family in match.layout.images
    )
    if names_assumed:
        metadata[keys.CLASSES] = json.dumps(naming)
    report = ConversionReport(
        container=source.container,
        layout=match.title,
        matched={**match.names, **head.names},
        left_over=head.left,
        ignored=match.ignored,
        config=new_config,
        notes=(
            *source.notes,
            *match.notes,
            *_notes(match, head, new_config, foreign),
            *decided,
            *_others(match.layout, new_config, assumed),
            *((NAMES_NOTE.format(new_config.num_classes),) if names_assumed else ()),
        ),
        biases=match.biases,
        assumed=assumed,
        assumed_as=match.layout.source or match.layout.name,
        scaling=scaling,
        namesakes=match.layout.namesakes,
    )
    if report.assumption:
        report = replace(report, notes=(report.assumption, *report.notes))
    return Loaded(new_config, state, metadata, report)


def check_floats(config: MobileNetConfig, state: Mapping[str, np.ndarray], source: str) -> None:
    """Refuse a state that is not all float32 or all float64, or not the config's."""
    dtype = np.asarray(state.get("classifier.weight", np.float32(0))).dtype
    if dtype not in (np.float32, np.float64):
        raise WeightsError(
            f"{source}: classifier.weight must be float32 or float64. Received: {dtype}"
        )
    check_state(config, state, dtype, slots_of(state), source=source)


def _has_canonical_names(config: MobileNetConfig, source: Source, path: str) -> bool:
    """Whether most of a file's tensors have this project's own names.

    Raises:
        WeightsError: The file's own config leaves a layer without channels.
    """
    try:
        names = state_shapes(config)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from None
    return 2 * sum(name in names for name in source.tensors) > len(source.tensors)


def _match(
    source: Source,
    layouts: tuple[Layout, ...],
    named: str | None,
    which: str | None,
    name_map: Mapping[str, str] | None,
) -> Match:
    """Which tensor is which: by the user's map, by names, or by structure."""
    path = str(source.path)
    name_map = name_map or source.name_map
    if name_map is not None:
        return match_map(source.tensors, name_map, path)
    match = match_layouts(source.tensors, layouts, which, path)
    if match is not None:
        return match
    if named is not None:
        raise refusal(source.tensors, layouts, path, f"only {named} was tried")
    structure = match_structure(source.tensors, source.is_ordered)
    if isinstance(structure, Match):
        return structure
    raise refusal(source.tensors, layouts, path, structure)


def _trunk(source: Source, match: Match) -> State:
    """The trunk by canonical names and axes, with biases before norms in the running means."""
    trunk: State = {}
    for ours, peer in match.names.items():
        trunk[ours] = _canonical_axes(source.path, match.layout, ours, source.tensors[peer])
    for peer, unit in match.biases.items():
        mean, bias = trunk[f"{unit}.norm.running_mean"], source.tensors[peer]
        if bias.shape != mean.shape:
            raise WeightsError(
                f"{source.path}: {peer} must have shape {mean.shape}. Received: {bias.shape}"
            )
        trunk[f"{unit}.norm.running_mean"] = mean - bias.astype(mean.dtype)
    return trunk


def _canonical_axes(path: Path, layout: Layout, name: str, tensor: np.ndarray) -> np.ndarray:
    try:
        return np.ascontiguousarray(layout.from_peer(name, tensor))
    except (ValueError, IndexError) as error:
        raise WeightsError(
            f"{path}: {name} has not {layout.name}'s axes: {error}. Received: {tensor.shape}"
        ) from None


def _inferred(
    path: Path, match: Match, trunk: State, head: Head, known: Mapping[str, Any]
) -> MobileNetConfig:
    """What the shapes show; the settings that are known decide between roundings."""
    if known.get("family", match.family) != match.family:
        raise WeightsError(f"{path}: its names are {match.family}'s. Received: {known['family']}")
    shapes = {name: tensor.shape for name, tensor in trunk.items()}
    features = [shape for name, shape in shapes.items() if name.endswith("conv.weight")][-1][0]
    classes = head.num_classes or known.get("num_classes", DEFAULT_CLASSES)
    weight = (classes, features) if head.weight is None else head.weight.shape
    bias = (classes,) if head.bias is None else head.bias.shape
    shapes |= {"classifier.weight": weight, "classifier.bias": bias}
    if "width_mult" in known and "rounding" in known:
        fields = {"num_classes": classes, "in_channels": shapes["stem.conv.weight"][1], **known}
        return MobileNetConfig.from_dict({**fields, "family": match.family})
    try:
        return infer_config(match.family, shapes, match.layout.fixed.get("rounding"))
    except WeightsError as error:
        try:  # a net that was built with another rounding than its project's default
            return infer_config(match.family, shapes)
        except WeightsError:
            raise WeightsError(f"{path}: no {match.title}: {error}") from None


def _with_head(config: MobileNetConfig, trunk: State, head: Head) -> State:
    """The state, with the file's classifier or one that is drawn anew from seed 0."""
    dtype = trunk["stem.conv.weight"].dtype
    weight, bias = head.weight, head.bias
    if weight is None or bias is None:
        drawn = initial_state(config, 0, dtype)
        weight, bias = drawn["classifier.weight"], drawn["classifier.bias"]
    state = {**trunk, "classifier.weight": weight, "classifier.bias": bias}
    return {n: np.ascontiguousarray(state[n]) for n in state_shapes(config) if n in state} | {
        name: tensor for name, tensor in state.items() if name not in state_shapes(config)
    }


def _metadata(
    source: Source, match: Match, head: Head, foreign: bool
) -> tuple[dict[str, str], str]:
    """The file's metadata, with how images are scaled; and who says that, where it is assumed."""
    metadata = {
        n: t for n, t in source.metadata.items() if n not in (keys.CONFIG, keys.FORMAT_VERSION)
    }
    if head.weight is None:
        metadata[CLASSIFIER] = DRAWN
    if not foreign:
        return metadata, ""
    metadata = {**source.origin.metadata, **metadata}
    if keys.PREPROCESSING in metadata:
        return metadata, ""
    images = match.layout.images.get(match.family, {})
    return metadata | dict(images), "layout" if images else "unknown"


def _notes(match: Match, head: Head, config: MobileNetConfig, foreign: bool) -> tuple[str, ...]:
    notes = []
    if match.biases:
        notes.append(f"the biases of {len(match.biases)} convolutions are in the running means")
    if head.weight is None:
        notes.append(
            f"{head.note}: one for {config.num_classes} classes is drawn anew, which has learnt "
            "nothing; --set num_classes=N draws another"
        )
    elif head.note:
        notes.append(head.note)
    if foreign and match.layout.name == "huggingface" and config.num_classes == 1001:
        notes.append(BACKGROUND)
    return tuple(notes)


def _others(layout: Layout, config: MobileNetConfig, assumed: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the net is not as its project builds it by default."""
    others = [
        f"{field} {getattr(config, field)!r} ({value!r})"
        for field, value in layout.fixed.items()
        if field not in ("rounding", "resolution")
        and field not in assumed
        and getattr(config, field) != value
    ]
    return (f"other than {layout.name}'s: {', '.join(others)}",) if others else ()


def _check_strides(source: Source, config: MobileNetConfig) -> None:
    """Refuse a net whose own description says other strides than these nets have."""
    expected = tuple(row.stride for row in layers(config))
    if source.strides and source.strides[: len(expected)] != expected:
        rows = zip(layers(config), source.strides, strict=False)
        name, stride = next((row.name, s) for row, s in rows if row.stride != s)
        raise WeightsError(
            f"{source.path}: {name} must have the stride of these nets. Received: {stride}"
        )


def _own_config(path: Path, metadata: Mapping[str, str]) -> MobileNetConfig | None:
    if keys.FORMAT_VERSION not in metadata:
        return None
    version = metadata[keys.FORMAT_VERSION]
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{path}: metadata format_version must be {FORMAT_VERSION!r}, as pymobilenet writes it."
            f" Received: {version!r}"
        )
    try:
        parse_object(metadata.get(keys.VERSIONS, "{}"))
        return MobileNetConfig.from_json(metadata.get(keys.CONFIG, ""))
    except ValueError as error:
        raise WeightsError(f"{path}: metadata: {error}") from None
