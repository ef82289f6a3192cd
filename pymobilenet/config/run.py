"""The data, length and checkpoints of a training run, as a frozen, validated dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pymobilenet.config.record import Record
from pymobilenet.errors import ConfigError

MOST_EPOCHS = 10**6

FORMER_SYNTHETIC = "stand-in"
"""The name of the data set ``synthetic`` in files of earlier versions."""


@dataclass(frozen=True)
class RunConfig(Record):
    """The data, length and checkpoints of a run, and its learning-rate schedule in epochs.

    Attributes:
        data: The data set, as `pymobilenet.data.open_data` takes it: ``cifar-100``, ``cifar-10``,
            ``synthetic`` or a path. Empty: the user must name it.
        on_corrupt: For image folders: ``refuse`` files that are not images, or ``skip`` them.
        validation: Number of training images held out for choosing the best epoch, selected by the
            seed. 0: the test images are used instead.
        limit: Number of the remaining images to train on, selected by the seed; 0 for all.
        train_eval_images: Number of training images, without augmentation, on which the training
            accuracy of an epoch is computed; 0: none. None: 2000 if they cost at most 5 % of an
            epoch's training, else none; see `pymobilenet.training.setup.train_eval_count`.
        epochs: Length of the run, including the warm-up.
        warmup_epochs: Length of the linear warm-up of the learning rate.
        step_epochs: For the schedule ``step``: epochs between two reductions of the learning rate,
            counted from the end of the warm-up.
        milestone_epochs: For the schedule ``milestones``: the epochs after which the learning rate
            is reduced, counted from the end of the warm-up.
        patience: Stop after this many epochs without a better validation accuracy; 0: never.
        save_steps: Write a checkpoint after every so many steps, in addition to those after
            epochs; 0: never.
        start: A file of pretrained weights, of any format. Its classifier is replaced if the number
            of classes differs. Empty: random initial weights from `init` and the seed.
        start_which: A state dict in that file, if it has several; see `formats.load_any`.
        start_sample: An .npz file of inputs and outputs of the net in that file, which determine
            the settings that the file does not state; see `formats.Sample`.
        start_map: A JSON file that maps that file's names to canonical names.
        init: The initialization scheme of `pymobilenet.weights.initial_state`. The default is
            PyTorch's, because V1 trains better from it than from ``he``; see docs/training.md.
        dtype: ``float32`` or ``float64``.

    Raises:
        ConfigError: A value is outside its range. The message names field, rule and value.
    """

    data: str = "cifar-100"
    on_corrupt: str = "refuse"
    limit: int = 0
    validation: int = 0
    train_eval_images: int | None = None
    epochs: int = 1
    warmup_epochs: int = 0
    step_epochs: int = 0
    milestone_epochs: tuple[int, ...] = ()
    patience: int = 0
    save_steps: int = 0
    start: str = ""
    start_which: str = ""
    start_sample: str = ""
    start_map: str = ""
    init: str = "torch"
    dtype: str = "float32"

    _table = "run"
    _former_names: ClassVar[Mapping[str, str]] = {"watched": "train_eval_images"}

    def __post_init__(self) -> None:
        if self.data == FORMER_SYNTHETIC:
            object.__setattr__(self, "data", "synthetic")
        of_start = ("start_which", "start_sample", "start_map")
        for name in ("data", "start", *of_start, "init"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} must be a string. Received: {getattr(self, name)!r}")
        for name in of_start:
            if getattr(self, name) and not self.start:
                raise ConfigError(f"{name} requires start. Received: {getattr(self, name)!r}")
        self._check_choice("on_corrupt", ("refuse", "skip"))
        self._check_choice("dtype", ("float32", "float64"))
        self._set_number("limit", int, 0, 10**9, "at least 0")
        self._set_number("validation", int, 0, 10**9, "at least 0")
        if self.train_eval_images is not None:
            self._set_number("train_eval_images", int, 0, 10**9, "at least 0")
        self._set_number("epochs", int, 0, MOST_EPOCHS, f"in [0, {MOST_EPOCHS}]")
        self._set_number("warmup_epochs", int, 0, MOST_EPOCHS, f"in [0, {MOST_EPOCHS}]")
        self._set_number("step_epochs", int, 0, MOST_EPOCHS, f"in [0, {MOST_EPOCHS}]")
        self._set_increasing("milestone_epochs", MOST_EPOCHS)
        self._set_number("patience", int, 0, MOST_EPOCHS, f"in [0, {MOST_EPOCHS}]")
        self._set_number("save_steps", int, 0, 10**9, "at least 0")
