"""Zeros that a model adds to images before a convolution, as a layer or an operator of its own.

A trace has them as the padding of the convolution, which is where most frameworks put them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pymobilenet.backends.trace import Layer

Pairs = tuple[tuple[int, int], ...]
"""The pixels before and after each spatial axis."""


class ZeroPadding:
    """The padded maps of one run, by which the convolution that gets them is found."""

    def __init__(self) -> None:
        self._originals: dict[bytes, tuple[np.ndarray, Pairs]] = {}

    def add(self, original: np.ndarray, padded: np.ndarray, pairs: Pairs) -> None:
        """Remember what a padding layer did.

        Args:
            original: (N, C, ...).
            padded: The same with zeros around.
            pairs: How many.
        """
        self._originals[padded.tobytes()] = original, pairs

    def absorb(
        self, kind: str, inputs: Sequence[np.ndarray], settings: Mapping[str, Any]
    ) -> tuple[list[np.ndarray], dict[str, Any]]:
        """Return inputs and settings of a layer; of a convolution that got padded maps, with them.

        Args:
            kind: Of the layer.
            inputs: What it got.
            settings: Its settings.

        Returns:
            The maps before they were padded, and the settings with ``zero_padding`` and the sum as
            ``padding``; or what was given.
        """
        key = inputs[0].tobytes() if kind == "conv" else b""
        if key not in self._originals:
            return list(inputs), dict(settings)
        original, pairs = self._originals[key]
        sums = zip(settings["padding"], pairs, strict=True)
        padding = tuple((a + c, b + d) for (a, b), (c, d) in sums)
        return [original], {**settings, "padding": padding, "zero_padding": pairs}


def padded_inputs(layer: Layer, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return inputs of a layer with the zeros that its model adds before it.

    Args:
        layer: Of a trace.
        inputs: (N, C, ...).
    """
    pairs = layer.settings.get("zero_padding")
    if not pairs:
        return list(inputs)
    return [np.pad(value, [(0, 0), (0, 0), *pairs]) for value in inputs]
