"""A model into any form this project writes, and from any it reads into any it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.backends import backend
from pymobilenet.backends.probe import probe_metadata
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats.conversion_report import ConversionReport
from pymobilenet.formats.exchange import FORMAT_VERSION
from pymobilenet.formats.huggingface import PT, write_folder
from pymobilenet.formats.infer_config import infer_config
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.load import check_floats, load_any
from pymobilenet.formats.registry import (
    CONTAINERS,
    LAYOUTS,
    check_destination,
    format_for,
    function,
)
from pymobilenet.formats.sample import Sample
from pymobilenet.formats.torch_layouts import CANONICAL
from pymobilenet.weights import State, state_shapes

TRAINING = ("dropout", "norm_momentum", "resolution")
"""Fields that change no output: whoever goes on training tells the other project."""


def save_as(
    path: str | Path,
    config: MobileNetConfig,
    state: Mapping[str, np.ndarray],
    to: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ConversionReport:
    """Write a model as another project keeps it; what stood at `path` stays on any failure.

    Args:
        path: The new file.
        config, state: The model; the state is canonical, float32 or float64.
        to: One of `registry.FORMATS`; without it, the one of the suffix of `path`. A file for
            torchvision or timm is a safetensors file if it is called so, else torch's.
        metadata: Text by name that travels with the model. A file of this project's own that has
            no probe yet is given one by torch.

    Returns:
        How the model's tensors are called in the file, and notes on what was left behind.

    Raises:
        WeightsError: The other project cannot build this net, or the state is not the config's.
        ConfigError: A format that does not exist, or a folder that does not.
        BackendUnavailable: The format needs a framework that is not there.
    """
    path = Path(path)
    name, file_format = format_for(path, to, "to")
    check_destination(path, is_folder=name == "huggingface")
    check_floats(config, state, f"the model for {path}")
    texts = described(config, metadata or {})
    weights: State = {key: np.asarray(state[key]) for key in state_shapes(config)}
    moments: State = {key: np.asarray(state[key]) for key in state if key not in weights}
    left = (f"the optimizer's {len(moments)} moments stay behind",) if moments else ()
    if file_format.writer is not None:
        file_format.writer(path, config, weights, texts)
        names = dict.fromkeys(weights, "")
        return ConversionReport(name, f"{name} {config.family}", names, config=config, notes=left)
    layout = _layout_for(path, name, file_format.layouts, config)
    notes = _check_buildable(path, layout, config)
    names = _names(path, layout, config)
    tensors = {peer: layout.to_peer(ours, weights[ours]) for ours, peer in names.items()}
    tensors |= layout.besides(config)
    if layout is CANONICAL:
        tensors |= moments
        if keys.PROBE not in texts:
            texts |= probe_metadata(backend("torch").from_state(config, weights))
    else:
        notes += left
    swapped = layout is not CANONICAL and path.suffix.lower() == ".safetensors"
    if name == "huggingface" and not path.suffix:
        write_folder(path, config, tensors, texts)
        return ConversionReport(
            "folder", f"{layout.name} {config.family}", names, config=config, notes=notes
        )
    if swapped:
        texts = {**texts, **PT}
    container = "safetensors" if swapped else file_format.container
    function(CONTAINERS[container].module, CONTAINERS[container].writer)(path, tensors, texts)
    return ConversionReport(
        container, f"{layout.name} {config.family}", names, config=config, notes=notes
    )


def convert(
    src: str | Path,
    dst: str | Path,
    source: str | None = None,
    target: str | None = None,
    config: MobileNetConfig | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    sample: Sample | str | Path | None = None,
    which: str | None = None,
    name_map: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ConversionReport:
    """Read a model from `src` and write it to `dst`; what stood at `dst` stays on any failure.

    Args:
        src, dst: The files.
        source: A container or a layout, to read `src` as that and nothing else; see `load_any`.
        target: One of `registry.FORMATS`; see `save_as`.
        config, settings, sample, which, name_map: What the tensors do not show; see `load_any`.
        metadata: Text by name that takes the place of the file's own: how images are scaled.

    Returns:
        How the tensors of `src` were paired, with notes on both sides.
    """
    name, _ = format_for(Path(dst), target, "target")  # refused before anything is read
    check_destination(Path(dst), is_folder=name == "huggingface")
    container, layout = _source(source)
    loaded = load_any(
        src,
        container,
        layout,
        config,
        settings=settings,
        sample=sample,
        which=which,
        name_map=name_map,
    )
    texts = {**loaded.metadata, **(metadata or {})}
    written = save_as(dst, loaded.config, loaded.state, target, texts)
    wrote = f"written: {dst} ({written.container}, layout {written.layout})"
    return replace(loaded.report, notes=(*loaded.report.notes, wrote, *written.notes))


def described(config: MobileNetConfig, metadata: Mapping[str, str]) -> dict[str, str]:
    """`metadata` with what the exchange file says of every model: format, config, versions."""
    versions = json.dumps({"pymobilenet": version("pymobilenet")}, separators=(",", ":"))
    return {
        keys.VERSIONS: versions,
        **metadata,
        keys.FORMAT_VERSION: FORMAT_VERSION,
        keys.CONFIG: config.to_json(),
    }


def _source(name: str | None) -> tuple[str | None, str | None]:
    """Container and layout called `name`, each None where there is none."""
    layouts = [layout.name for layout in LAYOUTS]
    if name is not None and name not in CONTAINERS and name not in layouts:
        known = ", ".join(dict.fromkeys([*CONTAINERS, *layouts]))
        raise ConfigError(f"source must be one of {known}. Received: {name!r}")
    return name if name in CONTAINERS else None, name if name in layouts else None


def _layout_for(
    path: Path, name: str, layouts: tuple[Layout, ...], config: MobileNetConfig
) -> Layout:
    for layout in layouts:
        if config.family in layout.families:
            return layout
    families = ", ".join(family for layout in layouts for family in layout.families)
    raise WeightsError(f"{path}: {name} has {families}. Received: {config.family}")


def _check_buildable(path: Path, layout: Layout, config: MobileNetConfig) -> tuple[str, ...]:
    """Refuse a net that the other project would compute otherwise; notes on training fields."""
    others = {
        field: (value, getattr(config, field))
        for field, value in layout.fixed.items()
        if field != "rounding" and getattr(config, field) != value
    }
    for field, (theirs, ours) in others.items():
        if field not in TRAINING:
            raise WeightsError(
                f"{path}: {layout.name}'s nets have {field} {theirs!r}: these weights would be "
                f"another net there. Received: {ours!r}"
            )
    rounding = layout.fixed.get("rounding", config.rounding)
    if rounding != config.rounding:
        shapes = state_shapes(config)
        try:
            infer_config(config.family, shapes, rounding)
        except WeightsError as error:
            raise WeightsError(
                f"{path}: {layout.name} cannot build these widths: {error}"
            ) from None
    return tuple(
        f"{layout.name} has {field} {theirs!r} unless told; this model's is {ours!r}"
        for field, (theirs, ours) in others.items()
    )


def _names(path: Path, layout: Layout, config: MobileNetConfig) -> dict[str, str]:
    try:
        return layout.rename(config)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from None
