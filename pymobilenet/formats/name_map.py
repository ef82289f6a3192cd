"""Pairing of tensors by a user's map of names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pymobilenet.architecture import TRUNKS, layers
from pymobilenet.config import FAMILIES
from pymobilenet.errors import WeightsError
from pymobilenet.formats.match import Match
from pymobilenet.formats.structure import KERAS_AXES, TORCH_AXES
from pymobilenet.formats.unit_names import NORM


def match_map(tensors: Mapping[str, np.ndarray], pairs: Mapping[str, str], source: str) -> Match:
    """Return the match that a user's map of names defines.

    The axes of all tensors are torch's, or Keras' if those of the stem are.

    Args:
        tensors: Name -> array, all of the file.
        pairs: Name in the file -> canonical name; ``<unit>.conv.bias`` is a convolution's bias.
        source: The file, for messages.

    Returns:
        The match.

    Raises:
        WeightsError: The file or the net lacks a name, or the map lacks a tensor of the trunk.
    """
    absent = [name for name in pairs if name not in tensors]
    if absent:
        raise WeightsError(f"{source}: the map names {absent[0]!r}, which the file lacks")
    inverse = {canonical: peer for peer, canonical in pairs.items()}
    biases = {
        peer: canonical.removesuffix(".conv.bias")
        for canonical, peer in inverse.items()
        if canonical.endswith("conv.bias")
    }
    names = {canonical: peer for canonical, peer in inverse.items() if peer not in biases}
    head = {name: names.pop(name) for name in list(names) if name.startswith("classifier.")}
    for config in TRUNKS:
        family = config.family
        expected = {
            f"{row.name}.{leaf}"
            for row in layers(config)
            for leaf in ("conv.weight", *(f"norm.{name}" for name in NORM))
        }
        if expected == set(names):
            break
    else:
        raise WeightsError(
            f"{source}: the map must name every tensor of a trunk of {', '.join(FAMILIES)} once, "
            f"as --write-map writes it. Received: {len(names)} names"
        )
    stem = tensors[names["stem.conv.weight"]]
    layout = KERAS_AXES if stem.ndim == 4 and stem.shape[2:] != (3, 3) else TORCH_AXES
    return Match(layout, family, "", names, head_names=tuple(head.values()), biases=biases)
