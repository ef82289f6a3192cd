"""Settings of a net that are stated with its weights: in config.json or a trainer's arguments.

A folder in the format of Hugging Face or timm has a ``config.json`` with the weights. A checkpoint
of timm's train.py has its arguments under ``args``. Sources: transformers, models/mobilenet_v1/
configuration_mobilenet_v1.py, ..._v2.py; timm, models/_hub.py, `save_config_for_hf`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymobilenet import metadata_keys as keys
from pymobilenet.config import ACTIVATIONS
from pymobilenet.errors import WeightsError
from pymobilenet.files import read_text_file
from pymobilenet.formats.unit_names import scaled_by
from pymobilenet.hub import PretrainedModel
from pymobilenet.strict_json import parse_object

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"

BACKGROUND = "class 0 of 1001 is the background; ImageNet's first class is 1"
"""transformers, docs/source/en/model_doc/mobilenet_v1.md, "Tips"."""


@dataclass(frozen=True)
class Origin:
    """Settings and metadata of a net, and where they were read.

    Attributes:
        settings: Fields of `MobileNetConfig` with values.
        file_part: The part of the file, or the file, that states them; "" if none does.
        metadata: The scaling of images and the names of classes, text by name.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    file_part: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def origin_beside(path: Path) -> Origin:
    """Read the ``config.json`` in the folder of a file, if it is one of transformers or timm.

    Args:
        path: The file of weights.

    Returns:
        The settings; none if there is no such config.json.

    Raises:
        WeightsError: The config.json is malformed, or its net is not supported.
    """
    values = _read(path.parent / CONFIG)
    kind = str(values.get("model_type", ""))
    if kind in ("mobilenet_v1", "mobilenet_v2"):
        return _transformers(values, _read(path.parent / PREPROCESSOR), path.parent / CONFIG)
    if "mobilenet" in str(values.get("architecture", "")):
        return _timm(values)
    return Origin()


def origin_of_arguments(arguments: Mapping[str, Any]) -> Origin:
    """Return the settings in timm's arguments ``bn_eps``, ``mean``, ``std`` and ``img_size``.

    Args:
        arguments: The arguments of timm's train.py.
    """
    settings: dict[str, Any] = {}
    if isinstance(arguments.get("bn_eps"), float):
        settings["norm_eps"] = arguments["bn_eps"]
    if isinstance(arguments.get("img_size"), int):
        settings["resolution"] = arguments["img_size"]
    return Origin(settings, "args", _scaling(arguments.get("mean"), arguments.get("std")))


def origin_of_pretrained(model: PretrainedModel) -> Origin:
    """Return settings, scaling and classes of pretrained weights.

    Args:
        model: An entry of the registry, see `pymobilenet.hub`.
    """
    metadata = _scaling(model.mean, model.std) | {keys.CLASSES: json.dumps(model.classes)}
    settings = {"resolution": model.resolution, **model.settings}
    return Origin(settings, "the registry of pretrained weights", metadata)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return parse_object(read_text_file(path))
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None


def _transformers(values: Mapping[str, Any], images: Mapping[str, Any], path: Path) -> Origin:
    settings: dict[str, Any] = {
        "family": str(values["model_type"]).removeprefix("mobilenet_"),
        "stem_stride": 2,
        "padding": "keras" if values.get("tf_padding", True) else "symmetric",
        "activation": values.get("hidden_act", "relu6"),
        "norm_eps": values.get("layer_norm_eps", 1e-3),
        "resolution": values.get("image_size", 224),
    }
    if settings["activation"] not in ACTIVATIONS:
        raise WeightsError(
            f"{path}: hidden_act must be one of {', '.join(ACTIVATIONS)}. "
            f"Received: {settings['activation']!r}"
        )
    if values.get("output_stride", 32) != 32:
        raise WeightsError(
            f"{path}: output_stride must be 32: these nets are not dilated. "
            f"Received: {values['output_stride']!r}"
        )
    metadata = _scaling(images.get("image_mean"), images.get("image_std"))
    labels = values.get("id2label")
    if isinstance(labels, dict):
        try:
            names = [labels[key] for key in sorted(labels, key=int)]
        except ValueError:
            names = []
        if names and names != [f"LABEL_{index}" for index in range(len(names))]:
            metadata["classes"] = json.dumps(names, ensure_ascii=False)
    return Origin(settings, CONFIG, metadata)


def _timm(values: Mapping[str, Any]) -> Origin:
    pretrained = values.get("pretrained_cfg", values)
    settings: dict[str, Any] = {}
    arguments = values.get("model_args", {})
    if isinstance(arguments, Mapping) and isinstance(arguments.get("bn_eps"), float):
        settings["norm_eps"] = arguments["bn_eps"]
    size = pretrained.get("input_size") if isinstance(pretrained, Mapping) else None
    if isinstance(size, list) and len(size) == 3:
        settings["resolution"] = size[1]
    metadata = _scaling(pretrained.get("mean"), pretrained.get("std"))
    names = values.get("label_names")
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        metadata["classes"] = json.dumps(names, ensure_ascii=False)
    return Origin(settings, CONFIG, metadata)


def _scaling(mean: Any, std: Any) -> dict[str, str]:
    vectors = [mean, std]
    if not all(isinstance(vector, (list, tuple)) and len(vector) == 3 for vector in vectors):
        return {}
    return scaled_by(*([float(value) for value in vector] for vector in vectors))
