"""What another project calls a MobileNet's tensors, and how it lays out their axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        classifiers: Other names that versions of the project have for the classifier's module.
        images: What the project's images are scaled by: `preprocessing`, `mean` and `std`, texts as
            `pymobilenet.data.file_metadata` reads them, by family.
        source: The repository, for the report.
        namesakes: What other nets have the same names; for the report.
        shared_names: Whether other nets have the same names: such a layout is used only where it
            is named.
        channels_last: Whether convolutions' axes end in (I, O), as Keras', and not begin with them.
        needs_prefix: Whether the names are too general without their common prefix.
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
    classifiers: tuple[str, ...] = ()
    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    source: str = ""
    namesakes: str = ""
    shared_names: bool = False
    channels_last: bool = False
    needs_prefix: bool = False
