"""Conversion of a file's tensors to a canonical state, and inference of the config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import WeightsError
from pymobilenet.formats.heads import DEFAULT_CLASSES, Head
from pymobilenet.formats.infer_config import infer_config, trunk_of
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.match import Match
from pymobilenet.formats.source import Source
from pymobilenet.weights import State, initial_state, state_shapes


def canonical_trunk(source: Source, match: Match) -> State:
    """Return the tensors of the trunk.

    A bias of a convolution before a norm is subtracted from the norm's running mean.

    Args:
        source: The content of the file.
        match: How its names are paired.

    Returns:
        Canonical name -> array with canonical axes.

    Raises:
        WeightsError: A tensor has other axes than the layout's, or a bias another shape.
    """
    trunk: State = {}
    for name, peer in match.names.items():
        trunk[name] = _canonical_axes(source.path, match.layout, name, source.tensors[peer])
    for peer, unit in match.biases.items():
        mean, bias = trunk[f"{unit}.norm.running_mean"], source.tensors[peer]
        if bias.shape != mean.shape:
            raise WeightsError(
                f"{source.path}: {peer} must have shape {mean.shape}. Received: {bias.shape}"
            )
        trunk[f"{unit}.norm.running_mean"] = mean - bias.astype(mean.dtype)
    return trunk


def _canonical_axes(path: Path, layout: Layout, name: str, tensor: np.ndarray) -> np.ndarray:
    try:
        return np.ascontiguousarray(layout.from_peer(name, tensor))
    except (ValueError, IndexError) as error:
        raise WeightsError(
            f"{path}: {name} must have the axes of {layout.name}: {error}. Received: {tensor.shape}"
        ) from None


def inferred_config(
    path: Path, match: Match, trunk: State, head: Head, known: Mapping[str, Any]
) -> MobileNetConfig:
    """Return the config inferred from the shapes of the tensors.

    Args:
        path: The file, for messages.
        match: How its names are paired.
        trunk: The tensors of the trunk.
        head: The head.
        known: The known fields of the config, which decide between roundings.

    Raises:
        WeightsError: No config has these shapes, or the known family is another.
    """
    if known.get("family", match.family) != match.family:
        raise WeightsError(f"{path}: its names are {match.family}'s. Received: {known['family']}")
    shapes = {name: tensor.shape for name, tensor in trunk.items()}
    features = [shape for name, shape in shapes.items() if name.endswith("conv.weight")][-1][0]
    classes = head.num_classes or known.get("num_classes", DEFAULT_CLASSES)
    weight = (classes, features) if head.weight is None else head.weight.shape
    bias = (classes,) if head.bias is None else head.bias.shape
    shapes |= {"classifier.weight": weight, "classifier.bias": bias}
    if "width_mult" in known and "rounding" in known:
        fields = {"num_classes": classes, "in_channels": shapes["stem.conv.weight"][1], **known}
        published = trunk_of(match.family, shapes)
        layers = {"depth_mult": published.depth_mult, "head_conv": published.head_conv}
        return MobileNetConfig.from_dict({**fields, "family": match.family, **layers})
    try:
        return infer_config(match.family, shapes, match.layout.fixed.get("rounding"))
    except WeightsError as error:
        try:  # a net built with another rounding than its project's default
            return infer_config(match.family, shapes)
        except WeightsError:
            raise WeightsError(f"{path}: must be a {match.title}: {error}") from None


def state_with_head(config: MobileNetConfig, trunk: State, head: Head) -> State:
    """Return the state, with the file's classifier or a new one, initialized with seed 0.

    Args:
        config: The config of the model.
        trunk: The tensors of the trunk.
        head: The head of the file.
    """
    dtype = trunk["stem.conv.weight"].dtype
    weight, bias = head.weight, head.bias
    if weight is None or bias is None:
        initial = initial_state(config, 0, dtype)
        weight, bias = initial["classifier.weight"], initial["classifier.bias"]
    state = {**trunk, "classifier.weight": weight, "classifier.bias": bias}
    names = state_shapes(config)
    return {name: np.ascontiguousarray(state[name]) for name in names if name in state} | {
        name: tensor for name, tensor in state.items() if name not in names
    }
