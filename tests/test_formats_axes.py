"""The axes of arrays that change them on the way in or out, by the formulas of their frameworks.

A round trip cannot show two axes that are exchanged both ways, and a shape cannot show it where
both axes are equally long. So each direction is held to sums that name the axes by letters, for
square arrays, too.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from format_models import V1, random_state
from onnx_graphs import images_of

from pymobilenet import MobileNetConfig, backend
from pymobilenet.architecture import feature_channels
from pymobilenet.formats import load_any, save_as
from pymobilenet.formats.keras_layout import LAYOUTS, from_keras

RNG = np.random.default_rng(0)
DENSE, DEPTHWISE = "classifier.weight", "blocks.0.depthwise.conv.weight"
CONV = "stem.conv.weight"
KERAS_SHAPES = {
    # kernel, and the size of the maps, which are not square
    CONV: [((3, 3, 4, 4), (5, 6)), ((3, 3, 3, 8), (5, 6)), ((2, 3, 3, 8), (5, 6))],
    DEPTHWISE: [((3, 3, 3, 1), (5, 6)), ((3, 3, 8, 1), (5, 6)), ((3, 2, 8, 1), (5, 6))],
    DENSE: [((6, 6), None), ((1, 1, 6, 6), None), ((6, 4), None)],
}


def keras_output(name, kernel, x):
    """What Keras' documentation says of a layer, for maps (N, H, W, C) or features (N, C)."""
    if name == DENSE:
        return np.einsum("ni,io->no", x, kernel.reshape(kernel.shape[-2:]))
    patches = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    sums = "nhwckl,klcm->nhwcm" if name == DEPTHWISE else "nhwckl,klco->nhwo"
    output = np.einsum(sums, patches, kernel)
    return output.reshape(*output.shape[:3], -1)


def torch_output(name, weight, x):
    """What torch computes from a canonical weight, with Keras' axes."""
    weight = torch.from_numpy(np.ascontiguousarray(weight))
    if name == DENSE:
        return F.linear(torch.from_numpy(x), weight).numpy()
    maps = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    groups = len(weight) if name == DEPTHWISE else 1
    return F.conv2d(maps, weight, groups=groups).numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [(name, *case) for name, cases in KERAS_SHAPES.items() for case in cases],
)
def test_a_keras_kernel_is_read_by_its_formula(name, shape, size):
    kernel = RNG.standard_normal(shape)
    x = RNG.standard_normal((2, *(size or ()), shape[-2]))
    expected = keras_output(name, kernel, x)
    assert np.allclose(torch_output(name, from_keras(name, kernel), x), expected, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.families[0])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((CONV, shape) for shape in ((4, 4, 3, 3), (8, 3, 3, 3), (8, 3, 2, 3))),
        *((DEPTHWISE, shape) for shape in ((3, 1, 3, 3), (8, 1, 3, 3), (8, 1, 3, 2))),
        *((DENSE, shape) for shape in ((6, 6), (4, 6))),
    ],
)
def test_a_kernel_is_written_for_keras_by_its_formula(layout, name, shape):
    weight = RNG.standard_normal(shape)
    channels = shape[0] if name == DEPTHWISE else shape[1]
    x = RNG.standard_normal((2, *(() if name == DENSE else (5, 6)), channels))
    expected = torch_output(name, weight, x)
    assert np.allclose(keras_output(name, layout.to_peer(name, weight), x), expected, atol=1e-12)


SQUARE = MobileNetConfig("v1", width_mult=0.25, num_classes=feature_channels(V1), resolution=32)
"""As many classes as features: a weight of the classifier fits both ways."""


@pytest.mark.parametrize("node", ["as written", "Gemm of the transpose", "MatMul and Add"])
def test_a_square_classifier_of_an_onnx_file_keeps_its_axes(tmp_path, node):
    onnx = pytest.importorskip("onnx")
    state = random_state(SQUARE)
    save_as(tmp_path / "a.onnx", SQUARE, state)
    graph = onnx.load(tmp_path / "a.onnx")
    if node != "as written":
        transpose_classifier(onnx, graph.graph, is_matmul=node != "Gemm of the transpose")
    onnx.save(graph, tmp_path / "b.onnx")
    x = images_of(SQUARE)
    expected = backend("torch").from_state(SQUARE, state).predict(x)
    loaded = load_any(tmp_path / "b.onnx")
    given = backend("torch").from_state(loaded.config, loaded.state).predict(x)
    assert np.linalg.norm(given - expected) < 1e-5 * np.linalg.norm(expected)


def transpose_classifier(onnx, graph, is_matmul):
    """Rewrite ``Gemm(x, w, b, transB=1)`` with the transposed weight."""
    (gemm,) = [node for node in graph.node if node.op_type == "Gemm"]
    features, name, bias = gemm.input
    (weight,) = [each for each in graph.initializer if each.name == name]
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).T.copy(), name))
    position, output = list(graph.node).index(gemm), gemm.output[0]
    del graph.node[position]
    nodes = [onnx.helper.make_node("Gemm", [features, name, bias], [output])]
    if is_matmul:
        nodes = [
            onnx.helper.make_node("MatMul", [features, name], ["product"]),
            onnx.helper.make_node("Add", ["product", bias], [output]),
        ]
    for offset, node in enumerate(nodes):
        graph.node.insert(position + offset, node)
