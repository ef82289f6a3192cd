"""What another project calls a MobileNet's tensors, and how it lays out their axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pymobilenet.config import MobileNetConfig


def unchanged(_name: str, array: np.ndarray) -> np.ndarray:
    """The axes of a layout that has PyTorch's."""
    return array


def nothing(_config: MobileNetConfig) -> dict[str, np.ndarray]:
    """What a layout's files hold besides, where they do not."""
    return {}


@dataclass(frozen=True)
class Layout:
    """The names and axes of one project's models, as a mapping both ways.

    Attributes:
        name: What the layout is called in `--from` and `--to`: "torchvision".
        families: The families of `MobileNetConfig` it can hold.
        fixed: Config fields every model of this layout has, and which its tensors do not show:
            ``{"norm_eps": 1e-3, "padding": "keras"}``.
        rename: For a config, canonical name -> the peer's name, for every tensor of
            `architecture.parameter_shapes` and `architecture.statistic_shapes`.
        from_peer: (canonical name, the peer's array) -> the array in canonical axes: a view where
            that is possible.
        to_peer: The inverse.
        ignored: A regular expression; peer names that it matches whole carry nothing of the model
            (``num_batches_tracked``).
        besides: For a config, what the peer's own files hold besides, by the peer's name.
        hint: A sentence for whoever has a file whose names are nearly these.
    """

    name: str
    families: tuple[str, ...]
    fixed: Mapping[str, Any]
    rename: Callable[[MobileNetConfig], dict[str, str]]
    from_peer: Callable[[str, np.ndarray], np.ndarray] = unchanged
    to_peer: Callable[[str, np.ndarray], np.ndarray] = unchanged
    ignored: str = ""
    besides: Callable[[MobileNetConfig], dict[str, np.ndarray]] = nothing
    hint: str = ""
