"""Pretrained weights by name, as a model that any backend takes."""

from __future__ import annotations

from pymobilenet.formats.load import Loaded, load_any
from pymobilenet.hub.resolve import find_pretrained


def pretrained(name: str) -> Loaded:
    """Return pretrained weights by name, downloaded on first use.

    Args:
        name: One of the names that `pymobilenet pretrained` lists, as ``"v1-0.25-224.keras"``.

    Returns:
        The model's config, state, metadata (`mean`, `std` and `classes` among them) and report.
        `Backend.from_state` takes config and state.

    Raises:
        ConfigError: No weights have this name; the message states similar ones.
        DataError: The weights cannot be downloaded, or their digest is not the expected one.
    """
    return load_any(find_pretrained(name).name)
