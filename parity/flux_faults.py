"""Faults planted in the Flux model of a random net, after its weights were ported."""

import copy

import numpy as np

from parity import random_nets
from pymobilenet.backends.julia.tracing import FluxParticipant
from pymobilenet.parity.diff import participant, port_weights


def ported_pair(seed, main, change=lambda layers: layers):
    """A torch module and the Flux model with its weights; `change` alters the latter's layers."""
    layers = random_nets.describe(seed)
    first = participant(random_nets.torch_net(layers, seed), "torch")
    flux_layers = change(copy.deepcopy(layers))
    second = FluxParticipant(random_nets.flux_net(flux_layers, main), "Flux")
    port_weights(first, second, random_nets.images())
    return first, second


def flat(layers):
    """All layers, those inside of residuals too."""
    for layer in layers:
        yield from flat(layer["layers"]) if layer["kind"] == "residual" else [layer]


def other_eps(random):
    def change(layers):
        norms = [layer for layer in flat(layers) if "eps" in layer]
        if norms:
            norm = norms[random.integers(len(norms))]
            norm["eps"] = 1e-5 if norm["eps"] == 1e-3 else 1e-3
        return layers

    return change


def other_activation(random):
    def change(layers):
        functions = [layer for layer in flat(layers) if layer["kind"] == "activation"]
        if functions:
            layer = functions[random.integers(len(functions))]
            others = sorted(set(random_nets.ACTIVATIONS) - {layer["function"]})
            layer["function"] = others[random.integers(len(others))]
        return layers

    return change


def flipped(params):
    weight = params["weight"]
    return {"weight": np.flip(weight, (2, 3))} if max(weight.shape[2:]) > 1 else None


def exchanged(params):
    weight = params["weight"]
    square = weight.shape[2] == weight.shape[3] > 1
    return {"weight": weight.swapaxes(2, 3)} if square else None


def without_bias(params):
    return {"bias": np.zeros_like(params["bias"])} if "bias" in params else None


STRUCTURE_FAULTS = {"eps of a norm": other_eps, "activation function": other_activation}
WEIGHT_FAULTS = {
    "kernel flip": flipped,
    "kernel height and width exchanged": exchanged,
    "missing bias": without_bias,
}


def plant(seed, main):
    """A pair with one fault, and the difference's name; None if this net has no place for it."""
    random = np.random.default_rng(seed)
    name = [*STRUCTURE_FAULTS, *WEIGHT_FAULTS][seed % 5]
    if name in STRUCTURE_FAULTS:
        before = random_nets.describe(seed)
        change = STRUCTURE_FAULTS[name](random)
        if change(copy.deepcopy(before)) == before:
            return None
        return (*ported_pair(seed, main, STRUCTURE_FAULTS[name](np.random.default_rng(seed))), name)
    first, second = ported_pair(seed, main)
    layers = second.trace(random_nets.images(), "float32").layers
    places = [
        (layer, changed)
        for layer in layers
        if layer.kind == "conv" and (changed := WEIGHT_FAULTS[name](layer.params)) is not None
    ]
    if not places:
        return None
    layer, changed = places[random.integers(len(places))]
    second.load_params(layer, {k: np.ascontiguousarray(v) for k, v in changed.items()})
    return first, second, name
