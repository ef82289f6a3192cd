"""The files, labels and statistics of CIFAR-10 and CIFAR-100, for readers and downloads.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pymobilenet.data.dataset import Statistics

Split = Literal["train", "test"]
Form = Literal["binary", "Python"]

CIFAR100_MEAN = (0.5071, 0.4865, 0.4409)
"""Mean of the 50,000 training images, red, green, blue in [0, 1] units; as published in
weiaicunzai/pytorch-cifar100 (conf/global_settings.py), and equal to `Dataset.mean`."""

CIFAR100_STD = (0.2673, 0.2564, 0.2762)
"""Standard deviation of the 50,000 training images; source as for `CIFAR100_MEAN`."""

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
"""Mean of CIFAR-10's 50,000 training images, as `CIFAR100_MEAN`."""

CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Standard deviation of CIFAR-10's training images, over all pixels. The .2023 .1994 .2010 of many
programs is another quantity, the mean of the standard deviations of the images."""


@dataclass(frozen=True)
class Labels:
    """One of the labels that each image has.

    Attributes:
        kind: The name in error messages.
        count: Number of classes; labels are 0 ... count - 1.
        key: Key of the labels in a pickle of images.
        names_key: Key of the class names in the pickle of names.
        names_file: File of the class names in the binary layout.
    """

    kind: str
    count: int
    key: str
    names_key: str
    names_file: str


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets.

    Attributes:
        name: "cifar-10" or "cifar-100".
        folders: Layout -> folder in the official archive.
        images: Split -> files of images in the Python layout; the binary layout appends ".bin".
        labels: In the order of a record's bytes; the last is the one to learn.
        meta: File of class names in the Python layout.
        meta_keys: Keys of that file besides class names.
        statistics: Mean and standard deviation of the training images.
    """

    name: str
    folders: dict[Form, str]
    images: dict[Split, tuple[str, ...]]
    labels: tuple[Labels, ...]
    meta: str
    meta_keys: frozenset[str]
    statistics: Statistics

    @property
    def title(self) -> str:
        """The name in upper case."""
        return self.name.upper()

    def image_files(self, form: Form, split: Split) -> tuple[str, ...]:
        """Return the names of the files of images.

        Args:
            form: The layout.
            split: "train" or "test".
        """
        suffix = ".bin" if form == "binary" else ""
        return tuple(name + suffix for name in self.images[split])

    def files(self, form: Form) -> tuple[str, ...]:
        """Return the names of all files of a layout, those of images first.

        Args:
            form: The layout.
        """
        names = [label.names_file for label in self.labels] if form == "binary" else [self.meta]
        return (*self.image_files(form, "train"), *self.image_files(form, "test"), *names)

    def archive(self, form: Form) -> str:
        """Return the name of the official archive, without its suffix.

        Args:
            form: The layout.
        """
        return f"{self.name}-{form.lower()}"

    def forms_in(self, folder: Path) -> list[Form]:
        """Return the layouts of which a folder contains a file of images.

        Args:
            folder: The folder.
        """
        return [
            form
            for form in FORMS
            if any(
                (folder / name).is_file()
                for split in SPLITS
                for name in self.image_files(form, split)
            )
        ]


SPLITS: tuple[Split, Split] = ("train", "test")
FORMS: tuple[Form, Form] = ("binary", "Python")

CIFARS = {
    "cifar-100": Cifar(
        name="cifar-100",
        folders={"binary": "cifar-100-binary", "Python": "cifar-100-python"},
        images={"train": ("train",), "test": ("test",)},
        labels=(
            Labels(
                kind="coarse label",
                count=20,
                key="coarse_labels",
                names_key="coarse_label_names",
                names_file="coarse_label_names.txt",
            ),
            Labels(
                kind="fine label",
                count=100,
                key="fine_labels",
                names_key="fine_label_names",
                names_file="fine_label_names.txt",
            ),
        ),
        meta="meta",
        meta_keys=frozenset(),
        statistics=(CIFAR100_MEAN, CIFAR100_STD),
    ),
    "cifar-10": Cifar(
        name="cifar-10",
        folders={"binary": "cifar-10-batches-bin", "Python": "cifar-10-batches-py"},
        images={
            "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
            "test": ("test_batch",),
        },
        labels=(
            Labels(
                kind="label",
                count=10,
                key="labels",
                names_key="label_names",
                names_file="batches.meta.txt",
            ),
        ),
        meta="batches.meta",
        meta_keys=frozenset({"num_cases_per_batch", "num_vis"}),
        statistics=(CIFAR10_MEAN, CIFAR10_STD),
    ),
}
