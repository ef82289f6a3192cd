"""Export of a model to any format, and conversion of files between formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
from pymobilenet.formats.huggingface import PT, STATED_IN_CONFIG, write_folder
from pymobilenet.formats.infer_config import infer_config
from pymobilenet.formats.keras_archive import write_archive
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.load import check_floats, load_any
from pymobilenet.formats.registry import (
    CONTAINERS,
    LAYOUTS,
    check_destination,
    format_for,
    import_function,
)
from pymobilenet.formats.sample import Sample
from pymobilenet.formats.torch_layouts import CANONICAL
from pymobilenet.weights import State, state_shapes

TRAINING = ("dropout", "norm_momentum", "resolution")
"""Fields that do not change outputs in evaluation; a note states them if the project's differ."""


def save_as(
    path: str | Path,
    config: MobileNetConfig,
    state: Mapping[str, np.ndarray],
    to: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ConversionReport:
    """Write a model in any format. On an error, an existing file at `path` is not changed.

    Args:
        path: The file to write.
        config: The config of the model.
        state: Canonical name -> array, all float32 or all float64.
        to: A key of `registry.FORMATS`; None for the format of the suffix of `path`. A file for
            torchvision or timm is a safetensors file if its suffix is .safetensors, else a file of
            `torch.save`.
        metadata: Metadata to write, text by name. If a file of this package has no probe in it, one
            is computed with the torch backend.

    Returns:
        The names of the tensors in the file, and notes on what was not written.

    Raises:
        WeightsError: The other project cannot build this net, or the state is not the config's.
        ConfigError: The format or the folder does not exist.
        BackendUnavailable: The format requires a framework that is not installed.
    """
    path = Path(path)
    name, file_format = format_for(path, to, "to")
    check_destination(path, is_folder=name == "huggingface")
    check_floats(config, state, f"the model for {path}")
    texts = described(config, metadata or {})
    weights: State = {key: np.asarray(state[key]) for key in state_shapes(config)}
    slots: State = {key: np.asarray(state[key]) for key in state if key not in weights}
    slots_note = (f"the {len(slots)} optimizer slots are not written",) if slots else ()
    if file_format.writer is not None:
        file_format.writer(path, config, weights, texts)
        names = dict.fromkeys(weights, "")
        return ConversionReport(
            name, f"{name} {config.family}", names, config=config, notes=slots_note
        )
    layout = _layout_for(path, name, file_format.layouts, config)
    if name == "keras" and path.suffix.lower() == ".keras":
        write_archive(path, config, weights, texts)
        title = f"{layout.name} {config.family}"
        names = dict.fromkeys(weights, "")
        return ConversionReport("keras", title, names, config=config, notes=slots_note)
    is_folder = name == "huggingface" and not path.suffix
    notes = _check_buildable(path, layout, config, stated=STATED_IN_CONFIG if is_folder else ())
    names = _names(path, layout, config)
    tensors = {
        peer: layout.to_peer(canonical, weights[canonical]) for canonical, peer in names.items()
    }
    tensors |= layout.extra_tensors(config)
    if layout is CANONICAL:
        tensors |= slots
        if keys.PROBE not in texts:
            texts |= probe_metadata(backend("torch").from_state(config, weights))
    else:
        notes += slots_note
    is_safetensors = layout is not CANONICAL and path.suffix.lower() == ".safetensors"
    if is_folder:
        write_folder(path, config, tensors, texts)
        return ConversionReport(
            "folder", f"{layout.name} {config.family}", names, config=config, notes=notes
        )
    if is_safetensors:
        texts = {**texts, **PT}
    container = "safetensors" if is_safetensors else file_format.container
    import_function(CONTAINERS[container].module, CONTAINERS[container].writer)(
        path, tensors, texts
    )
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
    """Read a model from `src` and write it to `dst`, whose file is not changed on an error.

    Args:
        src: The file to read.
        dst: The file to write.
        source: The name of a container or a layout, to read `src` as this only; see `load_any`.
        target: A key of `registry.FORMATS`; see `save_as`.
        config: The config of the net, see `load_any`.
        settings: Some fields of the config, see `load_any`.
        sample: Inputs and outputs of the original net, see `load_any`.
        which: The model to read, if `src` has several, see `load_any`.
        name_map: Name in `src` -> canonical name, see `load_any`.
        metadata: Text by name, which replaces the metadata of `src`, as the scaling of images.

    Returns:
        The report of `src`, with notes on reading and writing.

    Raises:
        WeightsError: As `load_any` and `save_as`.
        ConfigError: As `load_any` and `save_as`, or no container or layout is named `source`.
        BackendUnavailable: As `load_any` and `save_as`.
        DataError: As `load_any`.
    """
    name, _ = format_for(Path(dst), target, "target")  # raises before `src` is read
    check_destination(Path(dst), is_folder=name == "huggingface")
    container, layout = _container_or_layout(source)
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
    report = save_as(dst, loaded.config, loaded.state, target, texts)
    note = f"written: {dst} ({report.container}, layout {report.layout})"
    return replace(loaded.report, notes=(*loaded.report.notes, note, *report.notes))


def described(config: MobileNetConfig, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata with format_version, config and versions, as the exchange file has them.

    Args:
        config: The config of the model.
        metadata: Other metadata, text by name.
    """
    versions = json.dumps({"pymobilenet": version("pymobilenet")}, separators=(",", ":"))
    return {
        keys.VERSIONS: versions,
        **metadata,
        keys.FORMAT_VERSION: FORMAT_VERSION,
        keys.CONFIG: config.to_json(),
    }


def _container_or_layout(name: str | None) -> tuple[str | None, str | None]:
    """Return the container and the layout of a name, each None if there is none."""
    layouts = [layout.name for layout in LAYOUTS]
    if name is not None and name not in CONTAINERS and name not in layouts:
        known = ", ".join(dict.fromkeys([*CONTAINERS, *layouts]))
        raise ConfigError(f"source must be one of {known}. Received: {name!r}")
    return name if name in CONTAINERS else None, name if name in layouts else None


def _layout_for(
    path: Path, name: str, layouts: tuple[Layout, ...], config: MobileNetConfig
) -> Layout:
    for layout in layouts:
        if layout.has(config):
            return layout
    families = ", ".join(family for layout in layouts for family in layout.families)
    if config.family in families.split(", "):
        raise WeightsError(
            f"{path}: {name} has no nets with depth_mult or head_conv. Received: {config.to_json()}"
        )
    raise WeightsError(f"{path}: {name} has the families {families}. Received: {config.family}")


def _check_buildable(
    path: Path, layout: Layout, config: MobileNetConfig, stated: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return notes on fields for training that differ in the other project.

    Raises:
        WeightsError: The other project would compute other outputs with these weights.
    """
    differences = {
        field: (value, getattr(config, field))
        for field, value in layout.fixed.items()
        if field not in ("rounding", *stated) and getattr(config, field) != value
    }
    for field, (peer_value, value) in differences.items():
        if field not in TRAINING:
            raise WeightsError(
                f"{path}: {layout.name}'s nets have {field} {peer_value!r} and would compute other "
                f"outputs with these weights. Received: {value!r}"
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
        f"{layout.name} has {field} {peer_value!r} by default; this model has {value!r}"
        for field, (peer_value, value) in differences.items()
    )


def _names(path: Path, layout: Layout, config: MobileNetConfig) -> dict[str, str]:
    try:
        return layout.rename(config)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from None
