"""The initial weights in plain Python, without NumPy and without the package.

`python tests/initial_reference.py` writes julia/test/vectors/initial_state.json, to which both
languages are held.
"""

import hashlib
import json
import math
import struct
from pathlib import Path
from statistics import NormalDist

import paper
from philox_reference import philox4x64_10

VECTORS = Path(__file__).parents[1] / "julia/test/vectors/initial_state.json"
STREAM_INIT = 0

CASES = [
    {"seed": 0, "width_mult": 0.1, "num_classes": 7, "in_channels": 3, "stem_stride": 1},
    {"seed": 2**63 - 1, "width_mult": 0.25, "num_classes": 10, "in_channels": 1, "stem_stride": 2},
    *(
        {"seed": 5, "init": init, "width_mult": 0.1, "num_classes": 9, "in_channels": 3}
        for init in ("torch", "flux", "torchvision", "keras")
    ),
]
SHOWN = [
    "stem.conv.weight",
    "blocks.0.depthwise.conv.weight",
    "blocks.12.pointwise.conv.weight",
    "classifier.weight",
]


def words(seed, index, count):
    drawn = []
    block = 1
    while len(drawn) < count:
        drawn += philox4x64_10((block, index, 0, STREAM_INIT), (seed, 0))
        block += 1
    return drawn[:count]


def uniform(bound):
    return lambda word: (2.0 * ((word >> 11) * 2.0**-53) - 1.0) * bound


def normal(deviation):
    """Normal numbers, to be rounded to float32, which hides the last bits of the logarithm."""
    return lambda word: NormalDist().inv_cdf(((word >> 12) + 0.5) * 2.0**-52) * deviation


def draw_for(init, name, shape, features):
    """How the words of a tensor are converted; see pymobilenet/weights/initial.py."""
    if len(shape) == 1:
        is_biased = (init, name) == ("torch", "classifier.bias")
        return uniform(math.sqrt(1.0 / features)) if is_biased else None
    taps = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * taps, shape[0] * taps
    is_classifier = name == "classifier.weight"
    if init == "he":
        return uniform(math.sqrt((1.0 if is_classifier else 6.0) / fan_in))
    if init == "torch":
        return uniform(math.sqrt(1.0 / fan_in))
    if init == "torchvision":
        return normal(0.01 if is_classifier else math.sqrt(2.0 / fan_out))
    if init == "keras" and ".depthwise." in name:
        fan_in, fan_out = fan_out, fan_in
        assert fan_out == taps
    return uniform(math.sqrt(6.0 / (fan_in + fan_out)))


def tensor(draw, name, shape, seed, index):
    """The values as little-endian float32."""
    count = math.prod(shape)
    if draw is None:
        return struct.pack("<f", float(name.endswith("norm.weight"))) * count
    return struct.pack(f"<{count}f", *map(draw, words(seed, index, count)))


def state(seed, width_mult, num_classes, in_channels, init="he", stem_stride=2):
    """Name -> bytes; weights do not depend on the stem's stride."""
    del stem_stride
    shapes = paper.shapes(width_mult, num_classes, in_channels)
    features = dict(shapes)["classifier.weight"][1]
    tensors = {
        name: tensor(draw_for(init, name, shape, features), name, shape, seed, index)
        for index, (name, shape) in enumerate(shapes)
    }
    for name in [name for name in tensors if name.endswith("norm.bias")]:
        norm, count = name.removesuffix("bias"), len(tensors[name]) // 4
        tensors[f"{norm}running_mean"] = struct.pack("<f", 0.0) * count
        tensors[f"{norm}running_var"] = struct.pack("<f", 1.0) * count
    return tensors


def record(case):
    tensors = state(**case)
    config = {name: value for name, value in case.items() if name not in ("seed", "init")}
    digest = hashlib.sha256(b"".join(tensors[name] for name in sorted(tensors)))
    return {
        "config": json.dumps({**config, "resolution": 32}, sort_keys=True),
        "seed": str(case["seed"]),
        "init": case.get("init", "he"),
        "first": {
            name: [tensors[name][i : i + 4][::-1].hex() for i in (0, 4, 8, 12)] for name in SHOWN
        },
        "sha256": digest.hexdigest(),
    }


ABOUT = (
    "Initial weights by the rules in pymobilenet/weights/initial.py. config: JSON, absent fields "
    "have their defaults; init: the rule; first: the first 4 values of a tensor in row-major "
    "order, as float32 bit patterns in hex, most significant digit first; sha256: of the float32 "
    "little-endian bytes of all parameters and running statistics, in the order of their names. "
    "Written by tests/initial_reference.py."
)

if __name__ == "__main__":
    content = {"about": ABOUT, "cases": [record(case) for case in CASES]}
    VECTORS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
