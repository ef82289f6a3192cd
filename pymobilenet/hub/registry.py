"""The registry of published weights: `models.toml`, one table per publisher, as dataclasses."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymobilenet.config import read_toml
from pymobilenet.errors import ConfigError

FILE = Path(__file__).with_name("models.toml")
IMAGENET_CLASSES = Path(__file__).with_name("imagenet_classes.txt")
"""One name a line in the order of the 1000 classes of ILSVRC 2012: the first WordNet lemma of each
synset, or a longer name where two synsets share it. Source: the synset and lemma tables of timm
1.0.31, ``timm/data/_info``."""

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class PretrainedModel:
    """Published weights of one MobileNet.

    Attributes:
        name: "<family>-<width>-<resolution>.<publisher>", as in "v1-0.25-224.keras".
        title: The publisher and its model.
        source: URL of the code the weights belong to.
        licence: SPDX identifier of the publisher's licence.
        url: Where the file is.
        resolution: Pixels of the square images the weights were trained on.
        mean, std: Per-channel (red, green, blue) statistics of inputs scaled to [0, 1].
        classes: Name of the set of class names: "imagenet-1k", "cifar-10" or "cifar-100".
        settings: Fields of `MobileNetConfig` that neither the tensors nor their names show.
        sha256: Hexadecimal digest of the file; empty if it is not known.
        sha256_prefix: The first digits of that digest, where only these are known.
        top1, top5: Published accuracies in percent; None if the publisher states none.
    """

    name: str
    title: str
    source: str
    licence: str
    url: str
    resolution: int
    mean: Channels
    std: Channels
    classes: str
    settings: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    sha256_prefix: str = ""
    top1: float | None = None
    top5: float | None = None


@functools.cache
def pretrained_models(file: Path | None = None) -> dict[str, PretrainedModel]:
    """Return every model of the registry by name.

    Args:
        file: A registry in the form of ``models.toml``. Default: the package's own.

    Returns:
        Name -> model, in the order of the registry.

    Raises:
        ConfigError: `file` is not a registry.

    Examples:
        >>> pretrained_models()["v1-0.25-224.keras"].resolution
        224
    """
    path = FILE if file is None else file
    models: dict[str, PretrainedModel] = {}
    for publisher, table in read_toml(path).items():
        shared = {key: value for key, value in table.items() if key not in ("models", "url")}
        for name, fields in table.get("models", {}).items():
            url = table["url"].format(file=fields["file"])
            own = {key: value for key, value in fields.items() if key != "file"}
            try:
                model = PretrainedModel(name=name, url=url, **(shared | own))
            except TypeError as error:
                raise ConfigError(f"{path}: [{publisher}] {name}: {error}") from None
            models[name] = model
    return models


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1000 classes in their order.

    Examples:
        >>> imagenet_classes()[285]
        'Egyptian cat'
    """
    return tuple(IMAGENET_CLASSES.read_text(encoding="utf-8").splitlines())
