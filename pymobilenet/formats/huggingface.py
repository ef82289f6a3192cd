"""Folders of Hugging Face: config.json and model.safetensors, in one file or several, in and out.

transformers, src/transformers/utils/__init__.py: the names of the files; models/mobilenet_v1/
configuration_mobilenet_v1.py and ..._v2.py: the fields of config.json and their defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.files import atomic_write, make_folder
from pymobilenet.formats import safetensors_file
from pymobilenet.formats.origin import CONFIG, PREPROCESSOR
from pymobilenet.strict_json import parse_object

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TORCH_WEIGHTS = "pytorch_model.bin"

PT = {"format": "pt"}
"""The metadata by which transformers and timm know that a safetensors file is torch's."""

_HALF = [0.5, 0.5, 0.5]


def weights_in(folder: Path) -> Path | None:
    """The file of a folder that holds its weights, or the index of several; None without one."""
    for name in (WEIGHTS, INDEX, TORCH_WEIGHTS):
        if (folder / name).is_file():
            return folder / name
    return None


def read_parts(index: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of all files that an index names, and the metadata of the first.

    Raises:
        WeightsError: No such index, a file it names is not there or outside of its folder, or a
            tensor is not where the index says.
    """
    try:
        table: Any = parse_object(index.read_text(encoding="utf-8")).get("weight_map")
    except ValueError as error:
        raise WeightsError(f"{index}: {error}") from None
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise WeightsError(f"{index}: must have a weight_map, the file of each tensor")
    tensors: dict[str, np.ndarray] = {}
    metadata: dict[str, str] = {}
    for name in dict.fromkeys(table.values()):
        if Path(name).name != name:
            raise WeightsError(f"{index}: its files must be beside it. Received: {name!r}")
        part, texts = safetensors_file.read(index.parent / name)
        tensors |= part
        metadata = metadata or texts
    absent = [name for name in table if name not in tensors]
    if absent:
        raise WeightsError(f"{index}: {absent[0]} is not in {table[absent[0]]}")
    return {name: tensors[name] for name in table}, metadata


def write_folder(
    folder: Path,
    config: MobileNetConfig,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json.

    Args:
        folder: Made where it is not there; other files in it stay.
        config: Of the model.
        tensors: By transformers' names.
        metadata: Of the model: classes, and what its images are scaled by.

    Raises:
        ConfigError: Something else than a folder is there.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: a model of Hugging Face's is a folder; this is a file")
    make_folder(folder)
    safetensors_file.write(folder / WEIGHTS, tensors, {**metadata, **PT})
    _write_json(folder / PREPROCESSOR, _preprocessor(config, metadata))
    _write_json(folder / CONFIG, _config(config, metadata))


def _config(config: MobileNetConfig, metadata: Mapping[str, str]) -> dict[str, Any]:
    version = config.family.removeprefix("v")
    names = _names(config, metadata)
    values: dict[str, Any] = {
        "architectures": [f"MobileNetV{version}ForImageClassification"],
        "model_type": f"mobilenet_{config.family}",
        "num_channels": config.in_channels,
        "image_size": config.resolution,
        "depth_multiplier": config.width_mult,
        "min_depth": 8,
        "hidden_act": config.activation,
        "tf_padding": config.padding == "keras",
        "classifier_dropout_prob": config.dropout,
        "layer_norm_eps": config.norm_eps,
        "id2label": {str(place): name for place, name in enumerate(names)},
        "label2id": {name: place for place, name in enumerate(names)},
    }
    if config.family == "v2":
        values |= {
            "depth_divisible_by": 8,
            "expand_ratio": 6.0,
            "output_stride": 32,
            "first_layer_is_expansion": True,
            "finegrained_output": True,
        }
    return values


def _names(config: MobileNetConfig, metadata: Mapping[str, str]) -> list[str]:
    try:
        names = json.loads(metadata.get("classes", "null"))
    except ValueError:
        names = None
    if isinstance(names, list) and len(names) == config.num_classes:
        return [str(name) for name in names]
    return [f"LABEL_{place}" for place in range(config.num_classes)]


def _preprocessor(config: MobileNetConfig, metadata: Mapping[str, str]) -> dict[str, Any]:
    version = config.family.removeprefix("v")
    mean, std = metadata.get("mean"), metadata.get("std")
    size = config.resolution
    return {
        "image_processor_type": f"MobileNetV{version}ImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": json.loads(mean) if mean else _HALF,
        "image_std": json.loads(std) if std else _HALF,
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
