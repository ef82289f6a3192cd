"""How a training run goes, apart from model and steps, as a frozen, validated dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pymobilenet.config.record import Record
from pymobilenet.errors import ConfigError

MOST_EPOCHS = 10**6

FORMER_SYNTHETIC = "stand-in"
"""What files written by earlier versions call the data set ``synthetic``."""


@dataclass(frozen=True)
class RunConfig(Record):
    """The data of a run, its length and its schedule in epochs, what is measured and kept.

    Attributes:
        data: What `pymobilenet.data.open_data` takes: ``cifar-100``, ``cifar-10``, ``synthetic`` or
            a path. Empty: the user has to name it.
        on_corrupt: Of image folders: ``refuse`` files that are no images, or ``skip`` them.
        validation: How many training images are held out, chosen by the seed, to choose the best
            epoch by; 0 takes the test images for that.
        limit: How many of the others are trained on, chosen by the seed; 0 for all.
        train_eval_images: How many of these, as they are, give an epoch's training accuracy.
        epochs: Of the whole run, warm-up included.
        warmup_epochs: In which the rate rises evenly.
        step_epochs: Of the schedule ``step``: epochs between two of its steps.
        milestone_epochs: Of the schedule ``milestones``: after how many epochs the rate falls,
            counted from the end of the warm-up, as `step_epochs` is.
        patience: Stop after so many epochs without a better validation accuracy; 0 never.
        save_steps: A checkpoint after every so many steps too, not just after epochs; 0 for none.
        start: A file of weights to begin with, of any format; its classifier is replaced where the
            number of classes differs. Empty: initial weights by `init` and the seed.
        init: The rule of initial weights, see `pymobilenet.weights.initial`.
        dtype: ``float32`` or ``float64``.

    Raises:
        ConfigError: A value outside its range; the message names field, rule and value.
    """

    data: str = "cifar-100"
    on_corrupt: str = "refuse"
    limit: int = 0
    validation: int = 0
    train_eval_images: int = 2000
    epochs: int = 1
    warmup_epochs: int = 0
    step_epochs: int = 0
    milestone_epochs: tuple[int, ...] = ()
    patience: int = 0
    save_steps: int = 0
    start: str = ""
    init: str = "he"
    dtype: str = "float32"

    _table = "run"
    _former_names: ClassVar[Mapping[str, str]] = {"watched": "train_eval_images"}

    def __post_init__(self) -> None:
        if self.data == FORMER_SYNTHETIC:
            object.__setattr__(self, "data", "synthetic")
        for name in ("data", "start", "init"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} must be a text. Received: {getattr(self, name)!r}")
        self._check_choice("on_corrupt", ("refuse", "skip"))
        self._check_choice("dtype", ("float32", "float64"))
        self._set_number("limit", int, 0, 10**9, "at least 0")
        self._set_number("validation", int, 0, 10**9, "at least 0")
        self._set_number("train_eval_images", int, 1, 10**9, "at least 1")
        self._set_number("epochs", int, 0, MOST_EPOCHS, f"in [0, {MOST_EPOCHS}]")
        self._set_number("warmup_epochs", int, 0, MOST_EPOCHS, f"in [0, {MOST_EPOCHS}]")
        self._set_number("step_epochs", int, 0, MOST_EPOCHS, f"in [0, {MOST_EPOCHS}]")
        self._set_increasing("milestone_epochs", MOST_EPOCHS)
        self._set_number("patience", int, 0, MOST_EPOCHS, f"in [0, {MOST_EPOCHS}]")
        self._set_number("save_steps", int, 0, 10**9, "at least 0")
