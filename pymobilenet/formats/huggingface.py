"""Folders in the format of Hugging Face: config.json and the weights, in one file or several.

Sources: transformers, src/transformers/utils/__init__.py, for the names of the files;
models/mobilenet_v1/configuration_mobilenet_v1.py and ..._v2.py, for the fields of config.json and
their defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.files import atomic_write, make_folder, read_text_file
from pymobilenet.formats import safetensors_file
from pymobilenet.formats.origin import CONFIG, PREPROCESSOR
from pymobilenet.strict_json import parse_object

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TORCH_WEIGHTS = "pytorch_model.bin"

PT = {"format": "pt"}
"""The metadata that transformers and timm require of a safetensors file with torch's tensors."""

_HALF = [0.5, 0.5, 0.5]


STATED_IN_CONFIG = ("padding", "activation", "norm_eps", "dropout", "resolution")
"""Fields of `MobileNetConfig` that a config.json states, so that a folder holds any value."""


def weights_in(folder: Path) -> Path | None:
    """Return the file in a folder that holds its weights, or the index of several files.

    Args:
        folder: A path; a file has no weights in it.

    Returns:
        The path, or None if there is no such file.
    """
    for name in (WEIGHTS, INDEX, TORCH_WEIGHTS):
        if (folder / name).is_file():
            return folder / name
    return None


def read_parts(index: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a model that is split over several safetensors files.

    Args:
        index: The index, a ``model.safetensors.index.json``; the files are in its folder.

    Returns:
        Name -> array, of all files that the index names; and the metadata of the first file.

    Raises:
        WeightsError: The index is malformed, a file that it names is missing or outside its folder,
            or a tensor is not in the file that the index states.
    """
    try:
        table: Any = parse_object(read_text_file(index)).get("weight_map")
    except ValueError as error:
        raise WeightsError(f"{index}: {error}") from None
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise WeightsError(f"{index}: must have a weight_map, the file of each tensor")
    tensors: dict[str, np.ndarray] = {}
    metadata: dict[str, str] = {}
    for name in dict.fromkeys(table.values()):
        if Path(name).name != name:
            raise WeightsError(f"{index}: its files must be beside it. Received: {name!r}")
        file_tensors, file_metadata = safetensors_file.read(index.parent / name)
        tensors |= file_tensors
        metadata = metadata or file_metadata
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
        folder: The folder, which is created if it is missing; other files in it are not changed.
        config: The config of the model.
        tensors: transformers' name -> array.
        metadata: Texts of the model: ``classes``, and ``mean`` and ``std`` of its images.

    Raises:
        ConfigError: `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: must be a folder, as Hugging Face's models are. It is a file")
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
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
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
    return [f"LABEL_{index}" for index in range(config.num_classes)]


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
