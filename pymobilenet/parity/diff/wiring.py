"""Where the inputs of each layer come from, and where two models differ in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pymobilenet.backends.trace import TRANSPARENT, Layer, Trace
from pymobilenet.parity.diff.pairing import Pair

INPUT = "the model's input"

JOINS = ("add", "multiply", "concat")
"""Kinds with several inputs."""


def annotate(trace: Trace, inputs: np.ndarray) -> Trace:
    """Return a trace whose layers say whether they are first, and which maps were flattened.

    Adds the settings ``is_first`` (the layer takes the model's input) and ``map_shape`` (for a
    dense layer, the shape (C, H, W) of the maps that were flattened into its features). A 1x1
    convolution of a single pixel becomes a dense layer.

    Args:
        trace: Of one run.
        inputs: What the model got.
    """
    flattened: dict[bytes, tuple[int, ...]] = {}
    layers = []
    for layer in trace.layers:
        settings = dict(layer.settings)
        if layer.kind == "flatten":
            flattened[_digest(layer.output)] = layer.inputs[0].shape[1:]
        elif layer.kind == "dense":
            shape = flattened.get(_digest(layer.inputs[0]))
            settings |= {} if shape is None else {"map_shape": shape}
        if layer.inputs and np.array_equal(layer.inputs[0], inputs):
            settings["is_first"] = True
        if _is_dense(layer):
            weight = layer.params["weight"]
            params = {**layer.params, "weight": weight.reshape(weight.shape[:2])}
            layer = replace(layer, kind="dense", params=params)
            settings = {}
        layers.append(replace(layer, settings=settings))
    return Trace(tuple(layers), trace.output)


def _is_dense(layer: Layer) -> bool:
    """Return whether a layer is a 1x1 convolution of one pixel, which is a dense layer."""
    if layer.kind != "conv" or layer.settings["groups"] != 1:
        return False
    return {*layer.inputs[0].shape[2:], *layer.params["weight"].shape[2:]} == {1}


def sources(trace: Trace, inputs: np.ndarray) -> dict[str, list[str]]:
    """Return where each input of each layer comes from: a layer's name, or `INPUT`.

    Transparent layers are left out: a model may have an ``identity`` beside a block or not.

    Args:
        trace: Of one run.
        inputs: What the model got.
    """
    producers = {_digest(inputs): INPUT}
    result = {}
    for layer in trace.layers:
        own = [producers.get(_digest(value), "") for value in layer.inputs]
        source = own[0] if layer.kind in TRANSPARENT and own else ""
        result[layer.name], producers[_digest(layer.output)] = own, source or layer.name
    return result


def wiring_faults(
    pairs: Sequence[Pair], first: Trace, second: Trace, inputs: np.ndarray
) -> list[tuple[Layer, Layer, str, str]]:
    """Return the sums and concatenations whose inputs come from layers that do not correspond.

    Args:
        pairs: The paired layers.
        first: The first model's trace.
        second: The other's.
        inputs: What both models got.

    Returns:
        (layer, its counterpart, a source that only the first has, one that only the second has).
    """
    counterparts = {INPUT: INPUT} | {
        pair.first.name: pair.second.name for pair in pairs if pair.first and pair.second
    }
    first_sources, second_sources = sources(first, inputs), sources(second, inputs)
    faults = []
    for pair in pairs:
        if pair.first is None or pair.second is None or pair.first.kind not in JOINS:
            continue
        own, other = first_sources[pair.first.name], second_sources[pair.second.name]
        if "" in own or "" in other or any(name not in counterparts for name in own):
            continue
        only_first = [name for name in own if counterparts[name] not in other]
        only_second = [name for name in other if name not in map(counterparts.get, own)]
        if only_first and only_second:
            faults.append((pair.first, pair.second, only_first[0], only_second[0]))
    return faults


def _digest(value: np.ndarray) -> bytes:
    """Return a digest of the values, whatever the shape."""
    return hashlib.sha256(np.ascontiguousarray(value).data).digest()
