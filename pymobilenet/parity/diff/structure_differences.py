"""The known differences in which layers a model has, and in which order."""

from __future__ import annotations

from pymobilenet.parity.diff.difference import Difference

STRUCTURE_DIFFERENCES = (
    Difference(
        "missing residual",
        ("add",),
        "One model does not add the input of the block to its output.",
        "Sandler et al., arXiv:1801.04381, section 3.3; trailmet issue 149",
        "x + block(x)",
        "SkipConnection(block, +)",
    ),
    Difference(
        "residual from another layer",
        ("add",),
        "Both models add something to the output of a block, but from different layers, such as "
        "the block's input before or after its first activation.",
        "He et al., arXiv:1603.05027, figure 4",
        "x + block(x)",
        "SkipConnection(block, +)",
    ),
    Difference(
        "missing norm",
        ("batch_norm", "instance_norm", "group_norm", "layer_norm"),
        "One model has no norm behind a layer: a MobileNet has one behind both convolutions of a "
        "block.",
        "Howard et al., arXiv:1704.04861, figure 3",
        "nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6())",
        "Chain(conv, BatchNorm(channels, relu6))",
    ),
    Difference(
        "activation before norm",
        ("activation", "batch_norm", "instance_norm", "group_norm", "layer_norm"),
        "One model applies the activation before the norm. The activation of a Keras or Flux "
        "layer, such as Conv(..., relu), comes before a norm behind it.",
        "Ioffe and Szegedy, arXiv:1502.03167, section 3.2; Flux documentation of BatchNorm",
        "nn.Sequential(conv, norm, activation)",
        "Chain(conv, BatchNorm(channels, relu))",
    ),
)
"""`engine` finds them by the pairs of layers and by what the layers take in."""
