"""Noise floors of a trace and of a single layer; see `pymobilenet.parity.floors` for the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pymobilenet.backends.trace import Layer, Participant, Trace
from pymobilenet.parity.diff.ops import compute
from pymobilenet.parity.floors import IMAGES_INDEX as INPUT_INDEX
from pymobilenet.parity.floors import max_floor, min_floor
from pymobilenet.parity.tolerances import DRAWS, LAYER_DRAWS, LAYER_MIN_ULPS
from pymobilenet.weights.perturb import distance, draw_order, move_ulps

ELEMENTWISE = ("batch_norm", "activation", "add", "multiply", "flatten", "max_pool")
"""Kinds of layers that compute each value from one value of each input, without sums."""


def trace_floors(
    participant: Participant, inputs: np.ndarray, dtype: str, base: Trace
) -> tuple[dict[str, float], float]:
    """Measure the floor of every layer's output and of the model's output.

    Args:
        participant: The first model of a comparison.
        inputs: (N, ...), of `dtype`.
        dtype: float32 or float64.
        base: Its trace on `inputs`.

    Returns:
        Name of a layer -> floor, and the floor of the output, as fractions of the tensor's norm.
    """
    if participant.floors is not None:
        return dict(participant.floors.whole), participant.floors.output
    floors = {layer.name: min_floor(dtype) for layer in base.layers}
    output_floor = min_floor(dtype)
    for draw in range(DRAWS):
        order = draw_order(draw, 0, len(inputs))
        inverse = np.argsort(order)
        number = draw if participant.moves_weights else None
        trace = participant.trace(move_ulps(inputs, draw, INPUT_INDEX)[order], dtype, number)
        outputs = {layer.name: layer.output for layer in trace.layers}
        for layer in base.layers:
            if layer.name in outputs and len(outputs[layer.name]) == len(inverse):
                move = distance(outputs[layer.name][inverse], layer.output)
                floors[layer.name] = max(floors[layer.name], move)
        output_floor = max(output_floor, distance(trace.output[inverse], base.output))
    largest = max_floor(dtype)  # of a model whose results depend on chance
    return {name: min(floor, largest) for name, floor in floors.items()}, min(output_floor, largest)


def layer_floor(participant: Participant, layer: Layer, dtype: str) -> float:
    """Measure the floor of one layer on inputs that are moved by one unit in the last place.

    Args:
        participant: The model whose latest trace has the layer.
        layer: One of its layers.
        dtype: Of the trace.

    Returns:
        The floor, as a fraction of the output's norm.
    """
    if participant.floors is not None:
        return participant.floors.alone[layer.name]
    if layer.kind in ELEMENTWISE:
        floor = LAYER_MIN_ULPS * float(np.finfo(dtype).eps)
    else:
        floor = min_floor(dtype)
    for draw in range(LAYER_DRAWS):
        inputs = [
            move_ulps(value, draw, index) for index, value in enumerate(layer.inputs, INPUT_INDEX)
        ]
        floor = max(floor, distance(participant.run_layer(layer, inputs), layer.output))
    return min(floor, max_floor(dtype))


def folded_floor(layer: Layer, dtype: str) -> float:
    """Measure the floor of a convolution with its norm folded in, which no model runs as one layer.

    Args:
        layer: Of a trace that `pairing.fold_norms` returned.
        dtype: Of the trace.

    Returns:
        The floor, as a fraction of the output's norm.
    """
    floor, reference = min_floor(dtype), compute(layer)
    for draw in range(LAYER_DRAWS):
        inputs = tuple(
            move_ulps(value, draw, index) for index, value in enumerate(layer.inputs, INPUT_INDEX)
        )
        floor = max(floor, distance(compute(replace(layer, inputs=inputs)), reference))
    return floor


def fitted(inputs: Sequence[np.ndarray], layer: Layer) -> list[np.ndarray] | None:
    """Return inputs in the shapes that a layer of another model takes, or None if they do not fit.

    Args:
        inputs: The inputs of its counterpart.
        layer: The layer that is to be run.
    """
    if len(inputs) != len(layer.inputs):
        return None
    pairs = list(zip(inputs, layer.inputs, strict=True))
    if any(value.size != own.size and not _takes_maps(layer, value) for value, own in pairs):
        return None
    return [
        (value.reshape(own.shape) if value.size == own.size else value).astype(own.dtype)
        for value, own in pairs
    ]


def _takes_maps(layer: Layer, maps: np.ndarray) -> bool:
    """Return whether a layer is a convolution that takes maps of another size than its own."""
    own = layer.inputs[0]
    if layer.kind != "conv" or maps.ndim != own.ndim or maps.shape[:2] != own.shape[:2]:
        return False
    kernel = layer.params["weight"].shape[2:]
    dilation = layer.settings["dilation"]
    return all(
        size >= (length - 1) * step + 1
        for size, length, step in zip(maps.shape[2:], kernel, dilation, strict=True)
    )
