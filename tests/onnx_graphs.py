"""Nets that the tests of ONNX files use, and how ONNX Runtime runs a graph."""

import numpy as np
import onnxruntime

from pymobilenet import MobileNetConfig

SMALL = {"width_mult": 0.25, "resolution": 32, "num_classes": 10}
CONFIGS = {
    "v1": MobileNetConfig(**SMALL),
    "v1-keras": MobileNetConfig(**SMALL, padding="keras", norm_eps=1e-3, dropout=0.5),
    "v1-relu-grey": MobileNetConfig(**SMALL, activation="relu", in_channels=1, stem_stride=1),
    "v1_bottleneck": MobileNetConfig("v1_bottleneck", **SMALL, softmax=True),
    "v2": MobileNetConfig("v2", **SMALL, stem_stride=1),
    "v2-keras": MobileNetConfig("v2", **SMALL, padding="keras", norm_eps=1e-3, softmax=True),
}
SIZES = [(5, 32, 32), (1, 45, 37)]
"""(N, H, W): several and one; even; odd and not square."""


def images_of(config, size=SIZES[0]):
    count, *area = size
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, config.in_channels, *area)).astype(np.float32)


def run(graph, images):
    """Output name -> values of a graph, as ONNX Runtime runs it by default."""
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))
