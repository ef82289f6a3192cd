"""The class and the split of each file of an image folder, from its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pymobilenet import philox
from pymobilenet.data.cifar_table import SPLITS, Split
from pymobilenet.errors import DataError

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "test",
    "valid": "test",
    "validation": "test",
}
"""Names of folders, in lower case -> the split they hold.

Of several folders of one split, the first that holds classes is used."""

IMAGES = "images"
"""A folder between a class and its files, or between a split and them, as in Tiny ImageNet."""

ANNOTATIONS = "val_annotations.txt"
"""Tiny ImageNet's labels of ``val/images``: file name, tab, class, tab, bounding box."""

_SHOWN = 10


@dataclass(frozen=True)
class FolderLayout:
    """The arrangement of an image folder.

    Attributes:
        class_names: The sorted names of the classes.
        splits: Split -> name of each image -> its class.
        notes: Sentences on what was left out.
    """

    class_names: tuple[str, ...]
    splits: Mapping[Split, Mapping[str, str]]
    notes: tuple[str, ...] = field(default=())


def arrange(
    path: Path,
    images: list[str],
    others: list[str],
    read: Callable[[str], bytes],
    test_fraction: float,
    seed: int,
) -> FolderLayout:
    """Return the classes and splits of an image folder.

    Args:
        path: The folder or archive, for messages.
        images: Sorted names of its images, with "/" between folders.
        others: Names of its other files.
        read: Returns the content of one of `others`.
        test_fraction: The share of test images, if the folder has no splits; see `divide`.
        seed: Seed of that split.

    Raises:
        DataError: Images that lie elsewhere than in ``CLASS/`` or ``<split>/CLASS/``, or a class of
            the test images that has no training images.
    """
    components = _without_outer_folders(images)
    folders = {inner[0] for inner in components.values()}
    if not folders or not all(folder.lower() in SPLIT_FOLDERS for folder in folders):
        classes = _classes_of(path, images, components)
        return FolderLayout(
            tuple(sorted(set(classes.values()))), divide(classes, test_fraction, seed)
        )
    splits: dict[Split, dict[str, str]] = {split: {} for split in SPLITS}
    notes: list[str] = []
    for folder in sorted(folders, key=lambda name: list(SPLIT_FOLDERS).index(name.lower())):
        inner = {name: rest[1:] for name, rest in components.items() if rest[0] == folder}
        split = SPLIT_FOLDERS[folder.lower()]
        if all(rest[:-1] == [IMAGES] for rest in inner.values()):
            classes = _annotated(path, folder, inner, others, read)
            if not classes:
                notes.append(f"{folder}/ is not used: its images have no class")
                continue
        else:
            classes = _classes_of(path, images, inner, f"{folder}/")
        if splits[split]:
            notes.append(f"{folder}/ is not used: the split {split!r} has images already")
            continue
        splits[split] = classes
    class_names = tuple(sorted(set((splits["train"] or splits["test"]).values())))
    if unknown := sorted(set(splits["test"].values()) - set(class_names)):
        raise DataError(
            f"{path}: the test images have classes that the training images have not: "
            f"{shorten(unknown)}"
        )
    return FolderLayout(class_names, splits, tuple(notes))


def divide(
    classes: Mapping[str, str], test_fraction: float, seed: int
) -> dict[Split, dict[str, str]]:
    """Return a seeded division of each class into training and test images.

    Args:
        classes: Name of each image -> its class, sorted by name.
        test_fraction: The share of the test images, in (0, 1), rounded to the nearest image.
        seed: Of the order `philox.permutation` of `Stream.SPLIT`; index: the class's number.

    Returns:
        Split -> name -> class, sorted by name.
    """
    test: set[str] = set()
    for number, class_name in enumerate(sorted(set(classes.values()))):
        members = [name for name, other in classes.items() if other == class_name]
        words = philox.raw_words(seed, philox.Stream.SPLIT, 0, number, len(members))
        count = int(len(members) * test_fraction + 0.5)
        test.update(members[i] for i in philox.permutation(words)[:count])
    return {
        "train": {name: label for name, label in classes.items() if name not in test},
        "test": {name: label for name, label in classes.items() if name in test},
    }


def shorten(names: list[str]) -> str:
    """Return names for a message: the first ones, and how many more there are."""
    text = ", ".join(names[:_SHOWN])
    return text if len(names) <= _SHOWN else f"{text} and {len(names) - _SHOWN} more"


def _classes_of(
    path: Path, images: list[str], components: Mapping[str, list[str]], folder: str = ""
) -> dict[str, str]:
    """Name -> class of files in ``CLASS/`` or ``CLASS/images/``."""
    misplaced = [
        name
        for name, inner in components.items()
        if len(inner) != 2 and not (len(inner) == 3 and inner[1] == IMAGES)
    ]
    if misplaced or not components:
        layout = f"{folder}CLASS/" if folder else "train/CLASS/ and test/CLASS/, or all in CLASS/"
        raise DataError(
            f"{path}: images must lie in {layout}. "
            f"Received: {shorten(misplaced or images) if images else 'no image'}"
        )
    return {name: inner[0] for name, inner in components.items()}


def _annotated(
    path: Path,
    folder: str,
    components: Mapping[str, list[str]],
    others: list[str],
    read: Callable[[str], bytes],
) -> dict[str, str]:
    """Name -> class of files in ``<split>/images/``, from the annotations beside; or nothing."""
    suffix = f"{folder}/{ANNOTATIONS}"
    files = [name for name in others if f"/{name}".endswith(f"/{suffix}")]
    if len(files) != 1:
        return {}
    rows = read(files[0]).decode("utf-8", errors="replace").splitlines()
    labels = {row.split("\t")[0]: row.split("\t")[1] for row in rows if row.count("\t")}
    missing = [name for name, inner in components.items() if inner[-1] not in labels]
    if missing:
        raise DataError(f"{path}: {files[0]} has no class for {shorten(missing)}")
    return {name: labels[inner[-1]] for name, inner in components.items()}


def _without_outer_folders(images: list[str]) -> dict[str, list[str]]:
    """Name -> its folders and file name from the split or the class on; `images` are sorted."""
    components = {name: name.split("/") for name in images}
    while components:
        first, last = (
            components[images[0]],
            components[images[-1]],
        )  # sorted: what they share, all share
        is_split = first[0].lower() in SPLIT_FOLDERS
        if first[0] != last[0] or is_split or min(map(len, components.values())) < 3:
            break
        if all(inner[1] == IMAGES and len(inner) == 3 for inner in components.values()):
            break  # one class, and its folder of images
        components = {name: inner[1:] for name, inner in components.items()}
    return components
