"""A model out of any file: container by content, layout by names, config by shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats.conversion_report import ConversionReport
from pymobilenet.formats.detect import detect_container, detect_layout
from pymobilenet.formats.exchange import FORMAT_VERSION
from pymobilenet.formats.infer_config import infer_config
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.registry import CONTAINERS, function, layouts_named
from pymobilenet.formats.torch_layouts import CANONICAL
from pymobilenet.strict_json import parse_object
from pymobilenet.weights import State, check_state
from pymobilenet.weights.state import slots_of, truncate

UNSEEN = ("stem_stride", "padding", "activation", "norm_eps")
"""Fields that change what a net computes, and no tensor."""


@dataclass(frozen=True)
class Loaded:
    """A model read through a format.

    Attributes:
        config, state: As everywhere; the state is canonical, C-contiguous and checked, with moments
            only where the file is this project's own.
        metadata: What else the file says, text by name; without config and format_version.
        report: How the file's tensors were paired.
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
) -> Loaded:
    """Read a model from a file of this project or of another.

    Args:
        path: The file. What it is shows in its bytes and in the names in it, never in its suffix.
        container: One of `registry.CONTAINERS`, to read the file as that and nothing else.
        layout: The name of one of `registry.LAYOUTS`, for the same.
        config: What the tensors do not show, and the layout does not fix, is taken from it; what
            they show must agree with it. A file that carries its own config needs none.

    Raises:
        WeightsError: A file that is none of these, or not whole; names that fit no layout, or more
            than one; widths no config gives; a config that is missing or another.
        ConfigError: A container or layout that does not exist.
        BackendUnavailable: The container needs a framework that is not there.
    """
    path = Path(path)
    if container is not None and container not in CONTAINERS:
        names = ", ".join(CONTAINERS)
        raise ConfigError(f"container must be one of {names}. Received: {container!r}")
    layouts = layouts_named(layout)
    kind = container or detect_container(path)
    read = function(CONTAINERS[kind].module, CONTAINERS[kind].reader)
    tensors, metadata = read(path)
    moments = {name: tensors.pop(name) for name in list(tensors) if name.startswith("optimizer.")}
    fit, family, report = detect_layout(tensors, layouts, kind, str(path))
    if moments and fit is not CANONICAL:
        raise WeightsError(
            f"{path}: {fit.name} has no moments. Received: {truncate(sorted(moments))}"
        )
    tensors, widened = _widened({ours: tensors[peer] for ours, peer in report.matched.items()})
    state = {name: _canonical_axes(path, fit, name, tensors[name]) for name in tensors}
    config, notes = _config(path, fit, family, state, metadata, config)
    state |= moments
    check_floats(config, state, str(path))
    for known in (keys.CONFIG, keys.FORMAT_VERSION):
        metadata.pop(known, None)
    report = replace(report, config=config, notes=widened + notes)
    return Loaded(config, state, metadata, report)


def check_floats(config: MobileNetConfig, state: Mapping[str, np.ndarray], source: str) -> None:
    """Refuse a state that is not all float32 or all float64, or not the config's."""
    dtype = np.asarray(state.get("classifier.weight", np.float32(0))).dtype
    if dtype not in (np.float32, np.float64):
        raise WeightsError(
            f"{source}: classifier.weight must be float32 or float64. Received: {dtype}"
        )
    check_state(config, state, dtype, slots_of(state), source=source)


def _widened(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """float16 as float32, which holds all its values."""
    half = [name for name, tensor in tensors.items() if tensor.dtype == np.float16]
    wide = {n: t.astype(np.float32) if n in half else t for n, t in tensors.items()}
    return wide, (f"{len(half)} tensors were float16 and are float32",) if half else ()


def _canonical_axes(path: Path, layout: Layout, name: str, tensor: np.ndarray) -> np.ndarray:
    try:
        return np.ascontiguousarray(layout.from_peer(name, tensor))
    except (ValueError, IndexError) as error:
        raise WeightsError(
            f"{path}: {name} has not {layout.name}'s axes: {error}. Received: {tensor.shape}"
        ) from None


def _config(
    path: Path,
    layout: Layout,
    family: str,
    state: State,
    metadata: Mapping[str, str],
    given: MobileNetConfig | None,
) -> tuple[MobileNetConfig, tuple[str, ...]]:
    """The file's own config, or the one given, or what shapes and layout say; and notes on it."""
    own = _own_config(path, metadata)
    if own and given and own != given:
        raise WeightsError(
            f"{path}: its own config is {own.to_json()}. Received: {given.to_json()}"
        )
    known = own or given
    if known:
        if known.family != family:
            raise WeightsError(f"{path}: its names are {family}'s. Received: {known.family}")
        others = [
            f"{field} {getattr(known, field)!r} ({value!r})"
            for field, value in layout.fixed.items()
            if field != "rounding" and getattr(known, field) != value
        ]
        return known, (f"other than {layout.name}'s: {', '.join(others)}",) if others else ()
    shapes = {name: tensor.shape for name, tensor in state.items()}
    try:
        inferred = infer_config(family, shapes, layout.fixed.get("rounding"))
    except WeightsError as error:
        raise WeightsError(f"{path}: no {layout.name} {family}: {error}") from None
    unknown = [field for field in UNSEEN if field not in layout.fixed]
    if unknown:
        raise WeightsError(
            f"{path}: tensors do not show {', '.join(unknown)}, and the file has no config: give "
            f"one. They fit {inferred.to_json()}"
        )
    return replace(inferred, **layout.fixed), ()


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
