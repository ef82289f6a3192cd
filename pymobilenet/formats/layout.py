"""A layout: the names and axes of the tensors of another project's MobileNets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pymobilenet.config import MobileNetConfig


def unchanged(_name: str, array: np.ndarray) -> np.ndarray:
    """Return the array: `from_peer` and `to_peer` of a layout with PyTorch's axes."""
    return array


def no_extra_tensors(_config: MobileNetConfig) -> dict[str, np.ndarray]:
    """Return an empty dict: `extra_tensors` of a layout whose files have none."""
    return {}


@dataclass(frozen=True)
class Layout:
    """The names and axes of one project's tensors, for import and export.

    The peer is the other project.

    Attributes:
        name: The name of the layout in `--from` and `--to`: "torchvision".
        families: The families of `MobileNetConfig` that the project has.
        fixed: Config fields that have one value in the project and that tensors do not show:
            ``{"norm_eps": 1e-3, "padding": "keras"}``.
        rename: A function of the config that returns canonical name -> the peer's name, for every
            tensor of `architecture.parameter_shapes` and `architecture.statistic_shapes`.
        from_peer: A function of a canonical name and the peer's array that returns the array with
            canonical axes, as a view if possible.
        to_peer: The inverse of `from_peer`.
        ignored: A regular expression; peer names that it matches completely are no part of the
            model (``num_batches_tracked``).
        extra_tensors: A function of the config that returns the further tensors of the peer's
            files, by the peer's name.
        hint: A sentence for the error message about a file with nearly these names.
        classifiers: Names of the classifier's module in other versions of the project.
        images: Family -> the metadata of the scaling of images: `preprocessing`, `mean` and `std`,
            texts as `pymobilenet.data.file_metadata` reads them.
        source: The repository, for the report.
        namesakes: Other nets that have the same names, for the report.
        namesake_classes: Numbers of classes of these other nets. A trained net with one of them may
            be either, so that its settings must be stated.
        shared_names: Whether another layout has the same names; such a layout is used only if the
            user names it.
        channels_last: Whether the axes of convolutions end with (I, O), as in Keras, rather than
            begin with (O, I).
        has_variants: Whether the project also has nets with a `depth_mult` or `head_conv`.
        needs_prefix: Whether the names are too general without their common prefix.
    """

    name: str
    families: tuple[str, ...]
    fixed: Mapping[str, Any]
    rename: Callable[[MobileNetConfig], dict[str, str]]
    from_peer: Callable[[str, np.ndarray], np.ndarray] = unchanged
    to_peer: Callable[[str, np.ndarray], np.ndarray] = unchanged
    ignored: str = ""
    extra_tensors: Callable[[MobileNetConfig], dict[str, np.ndarray]] = no_extra_tensors
    hint: str = ""
    classifiers: tuple[str, ...] = ()
    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    source: str = ""
    namesakes: str = ""
    namesake_classes: tuple[int, ...] = ()
    shared_names: bool = False
    channels_last: bool = False
    has_variants: bool = False
    needs_prefix: bool = False

    def has(self, config: MobileNetConfig) -> bool:
        """Return whether the project has nets with the layers of a config.

        Args:
            config: The config.
        """
        return config.family in self.families and (self.has_variants or not config.is_variant)
