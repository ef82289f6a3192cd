"""Import of a model from any file that this package reads.

The container is detected by the file's content, the layout by the names or the structure of its
tensors, and the config by their shapes.
"""

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
from pymobilenet.formats.canonical import canonical_trunk, inferred_config, state_with_head
from pymobilenet.formats.conversion_report import ConversionReport
from pymobilenet.formats.exchange import FORMAT_VERSION
from pymobilenet.formats.heads import read_head
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.match import Match, match_layouts, no_match_error
from pymobilenet.formats.name_map import match_map
from pymobilenet.formats.origin import origin_of_pretrained
from pymobilenet.formats.registry import CONTAINERS, layouts_named
from pymobilenet.formats.report_notes import differences, head_notes, metadata_with_scaling
from pymobilenet.formats.sample import Sample, decide
from pymobilenet.formats.settings import Settings, check_settings, complete
from pymobilenet.formats.source import FLUX, Source, read_source
from pymobilenet.formats.structure import match_structure
from pymobilenet.formats.torch_layouts import CANONICAL, FLUX_STATE
from pymobilenet.formats.unit_names import COUNT
from pymobilenet.hub import resolve_model_file
from pymobilenet.strict_json import parse_object
from pymobilenet.weights import State, check_state, state_shapes
from pymobilenet.weights.state import slots_of, truncate

IMAGENET_NAMES = {1000: "imagenet-1k", 1001: "imagenet-1k-background"}
"""Number of classes -> the key of `evaluation.names.OFFICIAL` whose class names are assumed, if the
file names no classes and the published weights of its project are ImageNet's."""

NAMES_NOTE = "{} classes are assumed to be ImageNet's; --classes FILE gives other names"


@dataclass(frozen=True)
class Loaded:
    """A model read from a file.

    Attributes:
        config: The config of the model.
        state: Canonical name -> array, C-contiguous and checked, all float32 or all float64. It has
            optimizer slots only if a file of this package has them.
        metadata: The other metadata of the file, text by name, without config and format_version.
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
    """Read a model from a file of this package or of another project.

    A setting that neither tensors nor names determine is read from the file or a config.json in its
    folder, else taken from `config` and `settings`, else found with `sample`, else it is the
    layout's default. `report.assumed` lists these defaults.

    Args:
        path: The file, or the name of pretrained weights, see `pymobilenet.hub`. The format is
            detected by the bytes of the file, not by its suffix.
        container: A key of `registry.CONTAINERS`, to read the file as this container only.
        layout: The name of one of `registry.LAYOUTS`, to read the file as this layout only.
        config: The config of the net. It must agree with the tensors.
        settings: Some fields of the config: ``{"stem_stride": 1}``.
        sample: Inputs and outputs of the original net, or an .npz file of them; see `Sample`.
        which: If the file has several models, the name of a state dict or a prefix of tensor names:
            "ema".
        name_map: Name in the file -> canonical name, see `ConversionReport.name_map`.

    Returns:
        The model: config, state, metadata and report.

    Raises:
        WeightsError: The file is damaged or in no known format; its names and shapes fit no net, or
            more than one; or a setting is not known, or contradicts the file.
        ConfigError: The container, the layout or a setting does not exist.
        BackendUnavailable: The container requires a framework that is not installed.
        DataError: Pretrained weights cannot be downloaded.
    """
    path, pretrained = resolve_model_file(path, print_to_stderr)
    if container is not None and container not in CONTAINERS:
        names = ", ".join(CONTAINERS)
        raise ConfigError(f"container must be one of {names}. Received: {container!r}")
    layouts = layouts_named(layout)
    user = dict(check_settings(settings or {}))
    origin = origin_of_pretrained(pretrained) if pretrained else None
    source = read_source(path, container, which, origin)
    file_config = _file_config(path, source.metadata)
    if file_config is not None and _has_canonical_names(file_config, source, str(path)):
        check_floats(file_config, {**source.tensors, **source.moments}, str(path))
    if source.container in FLUX and file_config is None:
        layouts = (FLUX_STATE,)
    match = _match(source, layouts, layout, which, name_map)
    if source.moments and match.layout is not CANONICAL:
        raise WeightsError(
            f"{path}: the layout {match.layout.name} has no optimizer slots. "
            f"Received: {truncate(sorted(source.moments))}"
        )
    trunk = canonical_trunk(source, match)
    features = trunk[[name for name in trunk if name.endswith("conv.weight")][-1]].shape[0]
    head = read_head(source.tensors, match.head_names, match.layout, features)
    if file_config and config and file_config != config:
        raise WeightsError(
            f"{path}: its own config is {file_config.to_json()}. Received: {config.to_json()}"
        )
    known = Settings(
        file=file_config.to_dict() if file_config else dict(source.origin.settings),
        file_part="config" if file_config else source.origin.file_part,
        user={**(config.to_dict() if config else {}), **user},
        sample={},
    )
    inferred = inferred_config(path, match, trunk, head, known.known(str(path)))
    sample_notes: tuple[str, ...] = ()
    if sample is not None:
        sample = sample if isinstance(sample, Sample) else Sample.read(sample)
        state = state_with_head(inferred, trunk, head)
        known, sample_notes = decide(str(path), sample, inferred, state, match, known)
    ambiguous = () if layout else _ambiguous(source, match, inferred)
    new_config, assumed = complete(str(path), inferred, match.layout, known, ambiguous)
    _check_strides(source, new_config)
    state = state_with_head(new_config, trunk, head) | source.moments
    check_floats(new_config, state, str(path))
    is_foreign = file_config is None
    metadata, scaling = metadata_with_scaling(source, match, head, is_foreign)
    class_names = IMAGENET_NAMES.get(new_config.num_classes)
    are_names_assumed = (
        class_names is not None
        and is_foreign
        and head.weight is not None
        and keys.CLASSES not in metadata
        and match.family in match.layout.images
    )
    if are_names_assumed:
        metadata[keys.CLASSES] = json.dumps(class_names)
    report = ConversionReport(
        container=source.container,
        layout=match.title,
        matched={**match.names, **head.names},
        left_over=head.unused,
        ignored=match.ignored,
        config=new_config,
        notes=(
            *source.notes,
            *match.notes,
            *head_notes(match, head, new_config, is_foreign),
            *sample_notes,
            *differences(match.layout, new_config, assumed),
            *((NAMES_NOTE.format(new_config.num_classes),) if are_names_assumed else ()),
        ),
        biases=match.biases,
        assumed=assumed,
        assumed_as=match.layout.source,
        scaling=scaling,
        namesakes=match.layout.namesakes,
    )
    if report.assumption:
        report = replace(report, notes=(report.assumption, *report.notes))
    return Loaded(new_config, state, metadata, report)


def check_floats(config: MobileNetConfig, state: Mapping[str, np.ndarray], source: str) -> None:
    """Check that a state is that of a config, all float32 or all float64.

    Args:
        config: The config of the model.
        state: Canonical name -> array, with or without optimizer slots.
        source: The file, for messages.

    Raises:
        WeightsError: A tensor is missing, not expected, of another shape or dtype, or not finite.
    """
    dtype = np.asarray(state.get("classifier.weight", np.float32(0))).dtype
    if dtype not in (np.float32, np.float64):
        raise WeightsError(
            f"{source}: classifier.weight must be float32 or float64. Received: {dtype}"
        )
    check_state(config, state, dtype, slots_of(state), source=source)


def _has_canonical_names(config: MobileNetConfig, source: Source, path: str) -> bool:
    """Return whether most of a file's tensors have canonical names.

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
    layout: str | None,
    which: str | None,
    name_map: Mapping[str, str] | None,
) -> Match:
    """Pair the tensors with canonical names: by the user's map, by names, or by structure."""
    path = str(source.path)
    name_map = name_map or source.name_map
    if name_map is not None:
        return match_map(source.tensors, name_map, path)
    match = match_layouts(source.tensors, layouts, which, path)
    if match is not None:
        return match
    if layout is not None:
        raise no_match_error(source.tensors, layouts, path, f"only {layout} was tried")
    match_or_reason = match_structure(source.tensors, source.is_ordered)
    if isinstance(match_or_reason, Match):
        return match_or_reason
    raise no_match_error(source.tensors, layouts, path, match_or_reason)


def _ambiguous(source: Source, match: Match, config: MobileNetConfig) -> tuple[str, ...]:
    """Fields whose values names cannot tell, as trained nets of another project have the same.

    Without training there is no accuracy to lose, and the layout's defaults serve.
    """
    was_trained = any(
        name.endswith(COUNT) and array.size == 1 and array.item() > 0
        for name, array in source.tensors.items()
    )
    is_likely = config.num_classes in match.layout.namesake_classes
    return ("stem_stride",) if was_trained and is_likely else ()


def _check_strides(source: Source, config: MobileNetConfig) -> None:
    """Raise an error if the file's description states other strides than these nets have."""
    expected = tuple(row.stride for row in layers(config))
    if source.strides and source.strides[: len(expected)] != expected:
        rows = zip(layers(config), source.strides, strict=False)
        name, stride = next((row.name, s) for row, s in rows if row.stride != s)
        raise WeightsError(
            f"{source.path}: {name} must have the stride of these nets. Received: {stride}"
        )


def _file_config(path: Path, metadata: Mapping[str, str]) -> MobileNetConfig | None:
    """Return the config in the metadata of a file of this package; None for another file."""
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
