"""What a model's classes are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import DataError, WeightsError
from pymobilenet.strict_json import shown

CLASSES = "classes"
"""The metadata key: JSON, a list with a name for each class, or one of `OFFICIAL`."""

OFFICIAL = {
    "cifar-10": "airplane automobile bird cat deer dog frog horse ship truck",
    "cifar-100": """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
        butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
        crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
        keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
        mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
        plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
        skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
        television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
        worm""",
}
"""The names of the data sets' authors, in the order of their numbers: batches.meta.txt of CIFAR-10,
fine_label_names.txt of CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html)."""


def class_names(
    config: MobileNetConfig, metadata: Mapping[str, str], source: str, file: Path | None = None
) -> tuple[str, ...]:
    """A name for each class: the lines of `file`, else what the metadata say, else numbers.

    Args:
        config, metadata: Of the model.
        source: The model's file, for messages.
        file: UTF-8 text with one name a line.

    Raises:
        DataError: Another number of lines than there are classes, or a line without a name.
        WeightsError: The metadata hold something else than `CLASSES` says, or another number.
    """
    if file is not None:
        try:
            names = tuple(file.read_text(encoding="utf-8").splitlines())
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not UTF-8 text: {error}") from None
        if rule := _broken_rule(names, config.num_classes):
            raise DataError(f"{file}: one name a line: {rule}")
        return names
    if CLASSES not in metadata:
        return tuple(map(str, range(config.num_classes)))
    names = _from_metadata(metadata[CLASSES], source)
    if rule := _broken_rule(names, config.num_classes):
        raise WeightsError(f"{source}: metadata {CLASSES}: {rule}")
    return names


def _from_metadata(text: str, source: str) -> tuple[str, ...]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, str) and value in OFFICIAL:
        return tuple(OFFICIAL[value].split())
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise WeightsError(
            f"{source}: metadata {CLASSES} must be JSON, a list of names or one of "
            f"{', '.join(OFFICIAL)}. Received: {shown(text)}"
        )
    return tuple(value)


def _broken_rule(names: tuple[str, ...], count: int) -> str:
    if len(names) != count:
        return f"there must be {count} names, one for each class. Received: {len(names)}"
    empty = [place for place, name in enumerate(names) if not name.strip()]
    return f"class {empty[0]} must have a name. Received: {names[empty[0]]!r}" if empty else ""
