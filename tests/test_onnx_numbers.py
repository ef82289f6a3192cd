"""An ONNX file computes the same as the backends, up to float32 rounding.

ONNX Runtime is held to level 1 of the ladder as a backend would be: every activation, its distance
from the float64 oracle against torch's measured noise floor.
"""

import functools

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx_graphs import CONFIGS, SIZES, images_of, run

from pymobilenet import backend
from pymobilenet.architecture import activation_names
from pymobilenet.formats.onnx_export import onnx_model
from pymobilenet.parity.floors import (
    Program,
    draw_order,
    floors,
    move_parameters,
    move_ulps,
    unpermute,
)
from pymobilenet.parity.judge import Verdict, compare_observations, is_doubtful
from pymobilenet.parity.observe import Key
from pymobilenet.parity.scenario import start_state

NAMES = ["torch", pytest.param("julia", marks=pytest.mark.julia)]


def observed(graph, images):
    """Every activation, for which the graph has to be cut open, and the output of it uncut."""
    opened = onnx.ModelProto()
    opened.CopyFrom(graph)
    outputs = {output.name for output in graph.graph.output}
    for node in graph.graph.node:
        if node.output[0] not in outputs:
            opened.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    observations = run(opened, images)
    del observations["pool.mean"]
    return keyed(observations, *run(graph, images).values())


def keyed(activations, predicted):
    observations = {Key(1, "eval", name): values for name, values in activations.items()}
    return observations | {Key(1, "predict", "output"): predicted}


def of_model(model, images):
    return keyed(model.activations(images), model.predict(images))


def state_of(name):
    return start_state(CONFIGS[name], 1, "float32")


def graph_of(name):
    return onnx_model(CONFIGS[name], state_of(name))


@functools.cache
def expected(name, size, leader):
    """The oracle's observations, and the leader's program, which keeps its moves."""
    config, state = CONFIGS[name], state_of(name)
    images = images_of(config, size)
    exact = {name: tensor.astype(np.float64) for name, tensor in state.items()}
    oracle = of_model(backend("numpy").from_state(config, exact), images.astype(np.float64))

    def draw(number):
        order = draw_order(number, 0, len(images))
        moved = backend(leader).from_state(config, move_parameters(state, number))
        return unpermute(of_model(moved, move_ulps(images[order], number, 1000)), order)

    return oracle, Program(of_model(backend(leader).from_state(config, state), images), draw)


def judged(graph, name, size, leader="torch"):
    """ONNX Runtime and `leader` against the oracle, in the leader's floors."""
    oracle, program = expected(name, size, leader)
    images = images_of(CONFIGS[name], size)
    observations = {leader: program.base, "onnxruntime": observed(graph, images)}
    tensor_floors = floors(
        program,
        (),
        "float32",
        lambda floor: is_doubtful(compare_observations(oracle, observations, floor)),
    )
    rows = tuple(compare_observations(oracle, observations, tensor_floors))
    return Verdict("ONNX", 1, "outputs", rows)


# What it computes


@pytest.mark.parametrize("leader", NAMES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_activation_is_within_the_noise_of_float32(name, size, leader):
    verdict = judged(graph_of(name), name, size, leader)
    assert verdict.passed, verdict.first_divergence
    assert len(verdict.rows) == len(activation_names(CONFIGS[name])) + 1


def test_another_reader_of_the_format_computes_the_same():
    graph, images = graph_of("v2-keras"), images_of(CONFIGS["v2-keras"])
    (probabilities,) = ReferenceEvaluator(graph).run(None, {"images": images})
    np.testing.assert_allclose(probabilities, run(graph, images)["probabilities"], rtol=1e-4)


# Faults that the comparison has to find, and where


def of_type(graph, operator):
    return [node for node in graph.graph.node if node.op_type == operator]


def change_kernels(graph, change):
    for tensor in graph.graph.initializer:
        if tensor.name.endswith("conv.weight"):
            values = np.ascontiguousarray(change(onnx.numpy_helper.to_array(tensor)))
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def change_attribute(graph, operator, name, change):
    for node in of_type(graph, operator):
        for attribute in node.attribute:
            if attribute.name == name:
                value = change(onnx.helper.get_attribute_value(attribute))
                attribute.CopyFrom(onnx.helper.make_attribute(name, value))


def flip_kernels(graph):
    change_kernels(graph, lambda kernel: kernel[..., ::-1, ::-1])


def transpose_kernels(graph):
    change_kernels(graph, lambda kernel: kernel.swapaxes(2, 3))


def set_eps(graph):
    change_attribute(graph, "BatchNormalization", "epsilon", lambda _: 1e-4)


def swap_pads(graph):
    change_attribute(graph, "Conv", "pads", lambda pads: [*pads[2:], *pads[:2]])


def pad_symmetrically(graph):
    change_attribute(graph, "Conv", "pads", lambda pads: [max(pads)] * 4)


def drop_residuals(graph):
    for node in of_type(graph, "Add"):
        node.op_type = "Identity"
        del node.input[0]


def drop_clipping(graph):
    for node in of_type(graph, "Clip"):
        node.op_type = "Relu"
        del node.input[1:]


def swap_bias_and_mean(graph):
    for node in of_type(graph, "BatchNormalization"):
        node.input[2], node.input[3] = node.input[3], node.input[2]


def take_the_maximum(graph):
    (node,) = of_type(graph, "GlobalAveragePool")
    node.op_type = "GlobalMaxPool"


FAULTS = {
    flip_kernels: "stem.conv",
    transpose_kernels: "stem.conv",
    set_eps: "stem.norm",
    swap_pads: "stem.conv",
    pad_symmetrically: "stem.conv",
    drop_residuals: "blocks.0.add",
    drop_clipping: "stem.act",
    swap_bias_and_mean: "stem.norm",
    take_the_maximum: "pool",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_located(fault):
    graph = graph_of("v2-keras")
    fault(graph)
    size = (2, 64, 64)  # whose last map is 2x2, so that its mean means something
    divergence = judged(graph, "v2-keras", size).first_divergence
    assert divergence is not None
    assert (divergence.backend, divergence.name) == ("onnxruntime", FAULTS[fault])
