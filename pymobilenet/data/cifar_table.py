"""What CIFAR-10 and CIFAR-100 are: a table of two rows, which readers and downloads share.

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
weiaicunzai/pytorch-cifar100 (conf/global_settings.py), and what `Dataset.mean` gives."""

CIFAR100_STD = (0.2673, 0.2564, 0.2762)
"""Standard deviation of the 50,000 training images; source as for `CIFAR100_MEAN`."""

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
"""Mean of CIFAR-10's 50,000 training images, as `CIFAR100_MEAN`."""

CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Standard deviation of CIFAR-10's training images, over all pixels. The .2023 .1994 .2010 of many
programs are another quantity, the mean of each image's own deviation."""


@dataclass(frozen=True)
class Labels:
    """One label of each image.

    Attributes:
        kind: its name in messages.
        count: labels are 0 ... count-1.
        key: of the list of labels in a pickle of images.
        names_key: of the list of their names in the pickle of names.
        names_file: their names in the binary layout.
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
        folders: layout -> the folder in the official archive.
        images: split -> the files of images of the Python layout; the binary one appends ".bin".
        labels: in the order of a record's bytes; the last is the one to be learned.
        meta: the file of names of the Python layout.
        meta_keys: what it holds besides names.
        statistics: mean and deviation of the training images.
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
        return self.name.upper()

    def image_files(self, form: Form, split: Split) -> tuple[str, ...]:
        suffix = ".bin" if form == "binary" else ""
        return tuple(name + suffix for name in self.images[split])

    def files(self, form: Form) -> tuple[str, ...]:
        """All files of a layout, those of images first."""
        names = [label.names_file for label in self.labels] if form == "binary" else [self.meta]
        return (*self.image_files(form, "train"), *self.image_files(form, "test"), *names)

    def archive(self, form: Form) -> str:
        """The name of the official archive, without its suffix."""
        return f"{self.name}-{form.lower()}"

    def forms_in(self, folder: Path) -> list[Form]:
        """The layouts of which a folder has a file of images, of either split."""
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
