"""Files in a valid container whose tensors, metadata, config or probe are invalid."""

import io
import json

import numpy as np
import safetensors.numpy
from attack import CONFIG, STATE, TEXTS, attacks
from format_models import V2, peer_tensors

from pymobilenet import MobileNetConfig, TrainConfig, backend
from pymobilenet.backends.probe import probe
from pymobilenet.weights import state_shapes

PROBE = json.loads(probe(backend("torch").from_state(CONFIG, STATE)).to_json())
NONE = object()


def saved(tensors, texts):
    """The bytes that the safetensors library writes."""
    arrays = {name: np.array(tensor, order="C") for name, tensor in tensors.items()}
    return safetensors.numpy.save(arrays, texts)


def changed(texts=TEXTS, **tensors):
    """The model with these tensors, their names written with __ for the dots."""
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    state = {name: tensor for name, tensor in (STATE | named).items() if tensor is not NONE}
    return saved(state, texts)


def holding(name, value):
    """The model with one value of a tensor replaced."""
    tensor = STATE[name].copy()
    tensor.flat[-1] = value
    return changed(**{name: tensor})


def with_texts(**texts):
    metadata = {name: text for name, text in (TEXTS | texts).items() if text is not NONE}
    return saved(STATE, metadata)


def with_config(**fields):
    return with_texts(config=json.dumps(CONFIG.to_dict() | fields))


def with_probe(**fields):
    probe_fields = {name: value for name, value in (PROBE | fields).items() if value is not NONE}
    return with_texts(probe=json.dumps(probe_fields))


def trained():
    model = backend("torch").build(CONFIG)
    model.set_optimizer(TrainConfig(momentum=0.9))
    return model.get_state()


def peer(config, layout, **changes):
    """Another project's tensors in an npz file, without a config."""
    named = {name.replace("__", "."): tensor for name, tensor in changes.items()}
    tensors = {**peer_tensors(config, layout), **named}
    file = io.BytesIO()
    np.savez(file, **{name: tensor for name, tensor in tensors.items() if tensor is not NONE})
    return file.getvalue()


MOMENTS = trained()
NOTHING_OF_V2 = {name: np.zeros(1, np.float32) for name in state_shapes(MobileNetConfig("v2"))}
STEM, BIAS, VARIANCE = "stem.conv.weight", "classifier.bias", "stem.norm.running_var"

TENSORS = {
    "a tensor missing": (changed(stem__conv__weight=NONE), f"missing {STEM}, left over none"),
    "a tensor too many": (changed(extra=np.zeros(1)), "missing none, left over extra"),
    "names of nobody": (
        saved({"layer1.weight": np.zeros(1)}, TEXTS),
        "by structure it is no MobileNet",
    ),
    "no tensors": (saved({}, TEXTS), "by structure it is no MobileNet"),
    "too few values": (
        changed(classifier__bias=np.zeros(1, np.float32)),
        f"{BIAS} must have shape (2,). Received: (1,)",
    ),
    "no values": (
        changed(classifier__bias=np.zeros(0, np.float32)),
        f"{BIAS} must have shape (2,). Received: (0,)",
    ),
    "one axis less": (
        changed(stem__conv__weight=np.zeros((3, 3, 3), np.float32)),
        f"{STEM} must have shape (1, 3, 3, 3). Received: (3, 3, 3)",
    ),
    "axes in another order": (
        changed(stem__conv__weight=STATE[STEM].transpose(2, 3, 1, 0)),
        f"{STEM} must have shape (1, 3, 3, 3). Received: (3, 3, 3, 1)",
    ),
    "a tensor of float64 among float32": (
        changed(classifier__bias=np.zeros(2)),
        f"{BIAS} must be float32. Received: float64",
    ),
    "a tensor of integers": (
        changed(stem__conv__weight=np.zeros((1, 3, 3, 3), np.int32)),
        f"{STEM} must be float32. Received: int32",
    ),
    "a model of integers": (
        saved({name: tensor.astype(np.int64) for name, tensor in STATE.items()}, TEXTS),
        "classifier.weight must be float32 or float64. Received: int64",
    ),
    "a NaN": (holding(STEM, np.nan), f"{STEM} must be finite. Received: nan at [0, 2, 2, 2]"),
    "an infinity": (holding(BIAS, np.inf), f"{BIAS} must be finite. Received: inf at [1]"),
    "a negative infinity": (holding(BIAS, -np.inf), "must be finite. Received: -inf at [1]"),
    "a variance below zero": (
        holding(VARIANCE, -1e-3),
        f"{VARIANCE} must not be negative. Received: -0.001",
    ),
    "steps below zero": (
        saved({**MOMENTS, "optimizer.step": np.array(-1)}, TEXTS),
        "optimizer.step must not be negative. Received: -1",
    ),
    "steps that are floats": (
        saved({**MOMENTS, "optimizer.step": np.array(1.0)}, TEXTS),
        "optimizer.step must be int64. Received: float64",
    ),
    "steps without moments": (
        changed(optimizer__step=np.array(1)),
        "tensor names differ from those of",
    ),
    "a moment missing": (
        saved({k: v for k, v in MOMENTS.items() if k != f"optimizer.momentum.{BIAS}"}, TEXTS),
        f"missing optimizer.momentum.{BIAS}, left over none",
    ),
    "a moment that is not a number": (
        saved({**MOMENTS, f"optimizer.momentum.{BIAS}": np.full(2, np.nan, np.float32)}, TEXTS),
        f"optimizer.momentum.{BIAS} must be finite",
    ),
}

METADATA = {
    "no metadata": (
        saved(STATE, None),
        "neither its tensors nor the file state stem_stride (2 or 1); padding",
    ),
    "a format of the future": (
        with_texts(format_version="2"),
        "metadata format_version must be '1', as pymobilenet writes it. Received: '2'",
    ),
    "no config": (with_texts(config=NONE), "metadata: MobileNetConfig: not JSON ("),
    "a config that ends early": (with_texts(config="{"), "MobileNetConfig: not JSON ("),
    "a config that nests": (with_texts(config="[" * 50_000), "MobileNetConfig: not JSON ("),
    "a config that is a list": (
        with_texts(config="[1]"),
        "metadata: MobileNetConfig: not a JSON object. Received: [1]",
    ),
    "a config with a field twice": (
        with_texts(config='{"family":"v1","family":"v2"}'),
        'metadata: MobileNetConfig: the name "family" appears twice',
    ),
    "a field of nobody": (with_config(depth=1), "MobileNetConfig has no field 'depth'; its fields"),
    "versions that are a list": (with_texts(versions="[]"), "metadata: not a JSON object"),
    "versions that end early": (with_texts(versions="{"), "metadata: not JSON ("),
    "a config of another family": (with_config(family="v2"), "leaves none of 16 channels"),
    "a config of another width": (
        with_config(width_mult=0.1),
        f"{STEM} must have shape (3, 3, 3, 3). Received: (1, 3, 3, 3)",
    ),
    "a million classes": (
        with_config(num_classes=10**6),
        "classifier.weight must have shape (1000000, 51). Received: (2, 51)",
    ),
}

FIELDS = {
    "family": ("v9", "family must be one of v1, v1_bottleneck, v2. Received: 'v9'"),
    "rounding": ("up", "rounding must be one of floor, nearest, multiple_of_8. Received: 'up'"),
    "padding": (3, "padding must be one of symmetric, keras. Received: 3"),
    "activation": ("gelu", "activation must be one of relu6, relu. Received: 'gelu'"),
    "width_mult": (0, "width_mult must be in (0, 2]. Received: 0"),
    "resolution": (1e9, "resolution must be in [32, 4096] pixels. Received: 1000000000.0"),
    "num_classes": (10**30, "num_classes must be in [1, 1000000]. Received: 1000000000000"),
    "in_channels": (0, "in_channels must be in [1, 4096]. Received: 0"),
    "stem_stride": ("2", "stem_stride must be 1 or 2. Received: '2'"),
    "norm_eps": (-1, "norm_eps must be in [1e-12, 1]. Received: -1"),
    "norm_momentum": (True, "norm_momentum must be in [0, 1]. Received: True"),
    "dropout": ([0], "dropout must be in [0, 0.999]. Received: [0]"),
    "softmax": (1, "softmax must be true or false. Received: 1"),
    "bottleneck_ratio": (0.5, "bottleneck_ratio belongs to the family v1_bottleneck alone"),
}
CONFIGS = {
    f"a wrong {name}": (with_config(**{name: v}), text) for name, (v, text) in FIELDS.items()
}
CONFIGS |= {
    "a width that leaves nothing": (
        with_config(width_mult=0.01),
        "width_mult must leave the 32 channels of the stem at least one, with rounding 'floor'",
    ),
    "a width that leaves a block nothing": (
        saved(NOTHING_OF_V2, {**TEXTS, "config": json.dumps(CONFIG.to_dict() | {"family": "v2"})}),
        "width_mult 0.05 leaves none of 16 channels",
    ),
    "half a class": (
        with_config(num_classes=1.5),
        "num_classes must be a whole number, in [1, 1000000]. Received: 1.5",
    ),
    "a bottleneck of nothing": (
        with_config(family="v1_bottleneck", bottleneck_ratio=0),
        "bottleneck_ratio must be in (0, 1]. Received: 0",
    ),
}

LOGITS = PROBE["float64"]
PROBES = {
    "no probe": (with_texts(), "has no probe: it was written without one, or by another program"),
    "a probe that ends early": (with_texts(probe="{"), "metadata probe: not JSON ("),
    "a probe that is a list": (with_texts(probe="[]"), "metadata probe: not a JSON object"),
    "a probe without seed": (
        with_probe(seed=NONE),
        "metadata probe: it must have exactly digest, float32, float64, seed and shape",
    ),
    "a probe with another field": (with_probe(note=1), "it must have exactly digest, float32"),
    "a seed that is a float": (with_probe(seed=0.5), "seed must be a whole number. Received: 0.5"),
    "a seed past 64 bits": (
        with_probe(seed=2**64),
        "seed must be a whole number. Received: 1844",
    ),
    "images of three axes": (
        with_probe(shape=[2, 3, 32]),
        "shape must be that of images. Received: ",
    ),
    "images of terabytes": (with_probe(shape=[2, 3, 2**20, 2**20]), "shape must be that of images"),
    "no images": (with_probe(shape=[0, 3, 32, 32]), "shape must be that of images. Received: [0"),
    "logits of three images": (
        with_probe(float64=[*LOGITS, LOGITS[0]]),
        "float64 must be the logits of 2 images",
    ),
    "logits that are text": (with_probe(float32="text"), "float32 must be the logits of 2 images"),
    "uneven logits": (with_probe(float64=[[0.0, 1.0], [0.0]]), "float64 must be the logits of 2"),
    "logits of two sizes": (
        with_probe(float64=[[0.0] * 3] * 2),
        "metadata probe: the logits must be of one shape",
    ),
    "logits of three classes": (
        with_probe(float64=[[0.0] * 3] * 2, float32=[[0.0] * 3] * 2),
        "metadata probe: classes and channels must be (2, 3). Received: (3, 3)",
    ),
    "images of another seed": (
        with_probe(seed=1),
        "the probe's images are not those of its seed 1",
    ),
    "a digest that is a number": (with_probe(digest=3), "the probe's images are not those of its"),
}

NARROW = peer_tensors(V2, "torchvision")["features.0.0.weight"][:4]
PEERS = {
    "moments in a file of timm": (
        peer(V2, "timm", optimizer__step=np.array(3)),
        "the layout timm has no optimizer slots. Received: optimizer.step",
    ),
    "an axis less": (
        peer(V2, "timm", conv_stem__weight=np.zeros((16, 3, 3), np.float32)),
        "stem.conv.weight must have 4 axes. Received: (16, 3, 3)",
    ),
    "a stem of another width": (
        peer(V2, "torchvision", features__0__0__weight=NARROW),
        "must be a torchvision v2: ",
    ),
}

MODELS = [
    *attacks("model", TENSORS | METADATA | CONFIGS, container="safetensors"),
    *attacks("peer", PEERS, container="npz"),
    *attacks("probe", PROBES, container="safetensors", command="verify"),
]
