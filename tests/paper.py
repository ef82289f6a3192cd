"""Table 1 of Howard et al., arXiv:1704.04861, copied row by row, for the tests.

(layer type, stride, input channels, output channels, rows of its input); "dw" has one filter a
channel. In the last "dw" row the paper prints stride 2; its own output size needs 1.
"""

TABLE = [
    ("conv", 2, 3, 32, 224),
    ("dw", 1, 32, 32, 112),
    ("pw", 1, 32, 64, 112),
    ("dw", 2, 64, 64, 112),
    ("pw", 1, 64, 128, 56),
    ("dw", 1, 128, 128, 56),
    ("pw", 1, 128, 128, 56),
    ("dw", 2, 128, 128, 56),
    ("pw", 1, 128, 256, 28),
    ("dw", 1, 256, 256, 28),
    ("pw", 1, 256, 256, 28),
    ("dw", 2, 256, 256, 28),
    ("pw", 1, 256, 512, 14),
    *[("dw", 1, 512, 512, 14), ("pw", 1, 512, 512, 14)] * 5,
    ("dw", 2, 512, 512, 14),
    ("pw", 1, 512, 1024, 7),
    ("dw", 1, 1024, 1024, 7),
    ("pw", 1, 1024, 1024, 7),
]


def shapes(width_mult, num_classes, in_channels=3):
    """(name, shape) of all trained tensors, in order, from the table."""
    width = lambda channels: int(width_mult * channels)  # noqa: E731
    tensors = []
    for row, (kind, _, inputs, outputs, _) in enumerate(TABLE):
        role = "depthwise" if kind == "dw" else "pointwise"
        name = f"blocks.{(row - 1) // 2}.{role}" if row else "stem"
        per_group = 1 if kind == "dw" else width(inputs) if row else in_channels
        kernel = 1 if kind == "pw" else 3
        tensors.append((f"{name}.conv.weight", (width(outputs), per_group, kernel, kernel)))
        tensors.append((f"{name}.norm.weight", (width(outputs),)))
        tensors.append((f"{name}.norm.bias", (width(outputs),)))
    tensors.append(("classifier.weight", (num_classes, width(1024))))
    tensors.append(("classifier.bias", (num_classes,)))
    return tensors
