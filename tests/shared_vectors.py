"""Vectors of the configurations, which the tests of both languages read.

`python tests/shared_vectors.py` writes julia/test/vectors/config.json and infer_config.json.
`tests/test_shared_vectors.py` compares the files with what this script would write.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymobilenet import MobileNetConfig, TrainConfig
from pymobilenet.config import OPTIMIZERS, PREPROCESSINGS, SCHEDULES
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats.infer_config import PUBLISHED, infer_config
from pymobilenet.weights import state_shapes

VECTORS = Path(__file__).parents[1] / "julia/test/vectors"

MODEL_FIELDS: list[dict[str, Any]] = [
    {},
    {"family": "v1"},
    {"family": "v1_bottleneck"},
    {"family": "v2"},
    {"family": "v2", "rounding": None, "width_mult": None},
    {"width_mult": 1, "resolution": 192.0, "norm_momentum": 0, "dropout": -0.0},
    {"width_mult": 2, "rounding": "nearest", "padding": "keras", "activation": "relu"},
    {"width_mult": 0.03125, "num_classes": 1, "in_channels": 4096, "stem_stride": 1},
    {"family": "v1_bottleneck", "bottleneck_ratio": 1, "softmax": True, "norm_eps": 1e-12},
    {"dropout": 0.999, "norm_eps": 0.0010000000000000002, "num_classes": 1000000},
    {"family": "v9"},
    {"family": None},
    {"rounding": "up"},
    {"padding": "same"},
    {"activation": "gelu"},
    {"softmax": 1},
    {"width_mult": 0},
    {"width_mult": 2.0000000000000004},
    {"width_mult": "1"},
    {"width_mult": 0.03},
    {"family": "v1_bottleneck", "width_mult": 0.015},
    {"resolution": 31},
    {"resolution": 4097},
    {"resolution": 32.5},
    {"num_classes": 0},
    {"in_channels": True},
    {"stem_stride": 3},
    {"norm_eps": 9e-13},
    {"norm_momentum": -0.1},
    {"dropout": 1},
    {"bottleneck_ratio": 0.5},
    {"family": "v1_bottleneck", "bottleneck_ratio": 0},
    {"depth": 1},
    {"family": "v2", "depth_mult": 1},
    {"family": "v2", "width_mult": 1.1, "depth_mult": 1.2},
    {"family": "v2", "depth_mult": 1.3},
    {"depth_mult": 1.4},
    {"family": "v2", "depth_mult": "1"},
    {"head_conv": True},
    {"head_conv": 1},
    {"family": "v2", "head_conv": True},
]

TRAIN_FIELDS: list[dict[str, Any]] = [
    {},
    *({"optimizer": name} for name in OPTIMIZERS),
    *({"schedule": name, "step_size": 1, "milestones": [2, 7]} for name in SCHEDULES),
    *({"preprocessing": name} for name in PREPROCESSINGS),
    {"rate": 1, "steps": 0, "seed": 9223372036854775807, "batch_size": 1},
    {"nesterov": True, "weight_decay": 1, "decay_all": False, "clip_norm": 1e12},
    {"optimizer": "rmsprop_tf", "initial_square_avg": 1, "eps": 0.001, "alpha": 0.9},
    {"ema_decay": 0.9999, "label_smoothing": 0.1, "accumulate": 4, "mixup": 1},
    {"rotation": 180, "cutout": 4096, "crop_padding": 1024, "flip": False},
    {"optimizer": "lion"},
    {"schedule": "linear"},
    {"preprocessing": "tf"},
    {"rate": -0.1},
    {"momentum": 1.5},
    {"beta1": 1},
    {"weight_decay": 2},
    {"milestones": [2, 2]},
    {"milestones": 3},
    {"milestones": [1.5]},
    {"schedule": "milestones"},
    {"schedule": "step"},
    {"nesterov": True, "optimizer": "adam"},
    {"nesterov": True, "momentum": 0},
    {"initial_square_avg": 1, "optimizer": "rmsprop"},
    {"accumulate": 3},
    {"accumulate": 0},
    {"batch_size": 0.5},
    {"seed": -1},
    {"flip": 1},
    {"rotation": 181},
    {"mixup": 0.2},
    {"epochs": 1},
]

INFERRED: list[tuple[dict[str, Any], str | None, dict[str, list[int]]]] = [
    *(
        ({"family": family, "width_mult": width_mult}, None, {})
        for family in ("v1", "v2")
        for width_mult in (1.0, 0.75, 0.5, 0.25, 0.35, 1.4, 0.6, 0.9, 0.3331, 341 / 1024, 0.013)
        if family == "v2" or width_mult > 0.03
    ),
    *(
        ({"width_mult": width_mult, "rounding": rounding}, None, {})
        for width_mult in (0.7, 0.3, 1.01, 2.0)
        for rounding in ("nearest", "multiple_of_8")
    ),
    ({"width_mult": 0.2998046875}, None, {}),
    ({"width_mult": 0.29980468749999994}, None, {}),
    ({"family": "v2", "width_mult": 0.013, "rounding": "multiple_of_8"}, "multiple_of_8", {}),
    ({"family": "v2", "width_mult": 0.7, "rounding": "floor"}, "floor", {}),
    ({"family": "v1_bottleneck", "num_classes": 10}, None, {}),
    ({"family": "v1_bottleneck", "width_mult": 1, "bottleneck_ratio": 0.5}, None, {}),
    ({"family": "v1_bottleneck", "width_mult": 0.77, "bottleneck_ratio": 0.123}, None, {}),
    ({"in_channels": 1, "num_classes": 2000}, None, {}),
    ({"family": "v2", "width_mult": 1.1, "depth_mult": 1.2}, None, {}),
    ({"family": "v2", "width_mult": 0.5, "depth_mult": 1.4, "in_channels": 1}, None, {}),
    ({"width_mult": 0.25, "head_conv": True}, None, {}),
    ({"family": "v2", "depth_mult": 1.4}, None, {"stem.conv.weight": [40, 3, 3, 3]}),
    ({}, None, {"blocks.3.pointwise.conv.weight": [250, 128, 1, 1]}),
    ({}, None, {"blocks.3.pointwise.conv.weight": [2500, 128, 1, 1]}),
    ({}, None, {"stem.conv.weight": [31, 3, 3, 3]}),
    ({"family": "v2"}, "nearest", {"head.conv.weight": [1281, 320, 1, 1]}),
    ({"width_mult": 0.3}, "multiple_of_8", {}),
]
"""A config, the rounding that is known, and tensors of another shape (torch's axes)."""


def config_cases() -> Iterator[dict[str, Any]]:
    for kind, all_fields in ((MobileNetConfig, MODEL_FIELDS), (TrainConfig, TRAIN_FIELDS)):
        for fields in all_fields:
            case = {"config": kind.__name__, "fields": fields}
            try:
                yield case | {"json": kind.from_json(json.dumps(fields)).to_json()}
            except ConfigError as error:
                yield case | {"error": shared_message(str(error))}


def shared_message(text: str) -> str:
    """An error message up to the value received, with Julia's quotes and powers: the part that
    both languages write alike."""
    return text.partition(" Received: ")[0].replace("'", '"').replace("**", "^")


def infer_config_cases() -> Iterator[dict[str, Any]]:
    for fields, rounding, changes in INFERRED:
        config = MobileNetConfig(**fields)
        shapes = state_shapes(config) | {name: tuple(shape) for name, shape in changes.items()}
        case = {"config": config.to_dict(), "rounding": rounding, "changes": changes}
        try:
            yield case | {"inferred": infer_config(config.family, shapes, rounding).to_json()}
        except WeightsError as error:
            yield case | {"error": str(error)}


def contents() -> dict[str, str]:
    """File name -> text."""
    config_about = (
        "Fields of a MobileNetConfig or TrainConfig, and its canonical JSON, or its error message "
        "up to the value received. Written by tests/shared_vectors.py."
    )
    infer_about = (
        "Configs, the rounding that is known, and changed shapes (torch's axes), with the config "
        "that formats/infer_config.py infers from all shapes, or its error message. Multipliers "
        "in the order of preference. Written by tests/shared_vectors.py."
    )
    return {
        "config.json": text({"about": config_about}, config_cases()),
        "infer_config.json": text(
            {"about": infer_about, "published": PUBLISHED}, infer_config_cases()
        ),
    }


def text(head: dict[str, Any], cases: Iterator[dict[str, Any]]) -> str:
    """JSON with a case on each line."""
    entries = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    return "{\n" + ",\n".join([*entries, f' "cases": [\n{lines}\n ]']) + "\n}\n"


if __name__ == "__main__":
    for name, content in contents().items():
        (VECTORS / name).write_text(content, encoding="utf-8")
