"""The MobileNet architectures: a table per family, the layers, canonical names and counts.

`layers` converts a config into the list of layers from which every backend builds its model.
Canonical names, weight shapes, and parameter and multiply-add counts are derived from that list.
"""

from pymobilenet.architecture.families import (
    HEAD_CHANNELS,
    TRUNKS,
    V1,
    V1_BOTTLENECK,
    V2,
    InvertedStage,
    Layer,
    Stage,
    blocks_of_stages,
    layers,
    scaled,
)
from pymobilenet.architecture.shapes import (
    activation_names,
    feature_channels,
    last_map_size,
    mult_adds,
    num_params,
    parameter_shapes,
    statistic_shapes,
)

__all__ = [
    "HEAD_CHANNELS",
    "TRUNKS",
    "V1",
    "V1_BOTTLENECK",
    "V2",
    "InvertedStage",
    "Layer",
    "Stage",
    "activation_names",
    "blocks_of_stages",
    "feature_channels",
    "last_map_size",
    "layers",
    "mult_adds",
    "num_params",
    "parameter_shapes",
    "scaled",
    "statistic_shapes",
]
