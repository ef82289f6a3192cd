"""The names of a model's classes, and data sets whose labels are matched to them by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pymobilenet import metadata_keys as keys
from pymobilenet.config import MobileNetConfig
from pymobilenet.data import Dataset
from pymobilenet.errors import DataError, WeightsError
from pymobilenet.files import read_text_file
from pymobilenet.hub import imagenet_classes
from pymobilenet.strict_json import excerpt
from pymobilenet.weights.state import truncate

_CIFAR_10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR_100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm"""

OFFICIAL: dict[str, tuple[str, ...]] = {
    "cifar-10": tuple(_CIFAR_10.split()),
    "cifar-100": tuple(_CIFAR_100.split()),
    "imagenet-1k": imagenet_classes(),
    "imagenet-1k-background": ("background", *imagenet_classes()),
}
"""The names of the data sets' authors, in the order of their numbers: batches.meta.txt of CIFAR-10,
fine_label_names.txt of CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html), and ImageNet's, see
`pymobilenet.hub.imagenet_classes`; TensorFlow's nets have a class before them, the background."""


def class_names(
    config: MobileNetConfig, metadata: Mapping[str, str], source: str, file: Path | None = None
) -> tuple[str, ...]:
    """Return a name for each class: from `file`, else from the metadata, else its number.

    Args:
        config: The config of the model.
        metadata: The metadata of the model's file.
        source: The name of the model's file, for messages.
        file: UTF-8 text with one name a line.

    Raises:
        DataError: The number of lines is not that of the classes, or a line is empty.
        ConfigError: `file` is not a regular file, or too large.
        WeightsError: See `known_names`.
    """
    if file is not None:
        try:
            names = tuple(read_text_file(file).splitlines())
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not UTF-8 text: {error}") from None
        if rule := _broken_rule(names, config.num_classes):
            raise DataError(f"{file}: one name a line: {rule}")
        return names
    return known_names(config, metadata, source) or _numbers(0, config)


def known_names(
    config: MobileNetConfig, metadata: Mapping[str, str], source: str
) -> tuple[str, ...] | None:
    """Return the names of the classes from the metadata, or None if they have none.

    A net may have more classes than the data it was trained on; the name of a further class is its
    number.

    Args:
        config: The config of the model.
        metadata: The metadata of the model's file.
        source: The name of the model's file, for messages.

    Raises:
        WeightsError: The value of `classes` is not JSON for a list of names or a key of `OFFICIAL`,
            or has more names than the model has classes.
    """
    if keys.CLASSES not in metadata:
        return None
    names = _from_metadata(metadata[keys.CLASSES], source)
    names += _numbers(len(names), config)
    if rule := _broken_rule(names, config.num_classes):
        raise WeightsError(f"{source}: metadata {keys.CLASSES}: {rule}")
    return names


def match_classes(data: Dataset, names: Sequence[str], source: str) -> Dataset:
    """Return the data set with labels that are the model's: classes are matched by name.

    Args:
        data: Images of some of the model's classes, in any order.
        names: The names of the model's classes.
        source: The name of the model's file, for messages.

    Raises:
        DataError: The name of a class with images is not among `names`, or occurs there twice.
    """
    if data.class_names == tuple(names):
        return data
    counts = Counter(names)
    used = [data.class_names[index] for index in np.unique(data.labels).tolist()]
    for rule, wrong in (
        ("one of the model's classes", [name for name in used if not counts[name]]),
        ("exactly one of the model's classes", [name for name in used if counts[name] > 1]),
    ):
        if wrong:
            raise DataError(
                f"{data.source}: the name of each class must be that of {rule}; {source} has "
                f"{truncate(names)}. Received: {truncate(wrong)}. "
                "Rename classes that have another name in the model"
            )
    index_of = {name: index for index, name in enumerate(names)}
    numbers = np.array([index_of.get(name, -1) for name in data.class_names], np.int64)
    return replace(data, labels=numbers[data.labels], class_names=tuple(names))


def _from_metadata(text: str, source: str) -> tuple[str, ...]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, str) and value in OFFICIAL:
        return OFFICIAL[value]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise WeightsError(
            f"{source}: metadata {keys.CLASSES} must be JSON, a list of names or one of "
            f"{', '.join(OFFICIAL)}. Received: {excerpt(text)}"
        )
    return tuple(value)


def _numbers(first: int, config: MobileNetConfig) -> tuple[str, ...]:
    return tuple(map(str, range(first, config.num_classes)))


def _broken_rule(names: tuple[str, ...], count: int) -> str:
    if len(names) != count:
        return f"there must be {count} names, one for each class. Received: {len(names)}"
    empty = [index for index, name in enumerate(names) if not name.strip()]
    return f"class {empty[0]} must have a name. Received: {names[empty[0]]!r}" if empty else ""
