"""Metadata and notes of a loaded model: the scaling of its images, its head, its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymobilenet import metadata_keys as keys
from pymobilenet.config import MobileNetConfig
from pymobilenet.formats.heads import CLASSIFIER, DRAWN, Head
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.match import Match
from pymobilenet.formats.origin import BACKGROUND
from pymobilenet.formats.source import Source


def metadata_with_scaling(
    source: Source, match: Match, head: Head, is_foreign: bool
) -> tuple[dict[str, str], str]:
    """Return the metadata of a model with the scaling of its images.

    Args:
        source: The content of the file.
        match: How the names are paired.
        head: The head of the file.
        is_foreign: Whether another project wrote the file.

    Returns:
        Text by name, and `ConversionReport.scaling`.
    """
    metadata = {
        n: t for n, t in source.metadata.items() if n not in (keys.CONFIG, keys.FORMAT_VERSION)
    }
    if head.weight is None:
        metadata[CLASSIFIER] = DRAWN
    if not is_foreign:
        return metadata, ""
    metadata = {**source.origin.metadata, **metadata}
    if keys.PREPROCESSING in metadata:
        return metadata, ""
    images = match.layout.images.get(match.family, {})
    return metadata | dict(images), "layout" if images else "unknown"


def head_notes(
    match: Match, head: Head, config: MobileNetConfig, is_foreign: bool
) -> tuple[str, ...]:
    """Return notes on biases before norms and on the classifier.

    Args:
        match: How the names are paired.
        head: The head of the file.
        config: The config of the model.
        is_foreign: Whether another project wrote the file.
    """
    notes = []
    if match.biases:
        notes.append(f"the biases of {len(match.biases)} convolutions are in the running means")
    if head.weight is None:
        notes.append(
            f"{head.note}: one for {config.num_classes} classes is initialized at random and not "
            "trained; --set num_classes=N for another number"
        )
    elif head.note:
        notes.append(head.note)
    if is_foreign and match.layout.name == "huggingface" and config.num_classes == 1001:
        notes.append(BACKGROUND)
    return tuple(notes)


def differences(
    layout: Layout, config: MobileNetConfig, assumed: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return a note on the fields that differ from the project's defaults.

    Args:
        layout: The layout of the file.
        config: The config of the model.
        assumed: Fields that are the layout's defaults.
    """
    fields = [
        f"{field} {getattr(config, field)!r} ({value!r})"
        for field, value in layout.fixed.items()
        if field not in ("rounding", "resolution")
        and field not in assumed
        and getattr(config, field) != value
    ]
    return (f"other than {layout.name}'s: {', '.join(fields)}",) if fields else ()
