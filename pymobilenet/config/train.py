"""How a MobileNet is trained, as a frozen, validated dataclass; see docs/training.md."""

from __future__ import annotations

from dataclasses import dataclass

from pymobilenet.config.record import Record
from pymobilenet.errors import ConfigError

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "rmsprop_tf")
SCHEDULES = ("constant", "step", "milestones", "cosine", "one_cycle")
PREPROCESSINGS = ("unit", "standard", "keras")


@dataclass(frozen=True)
class TrainConfig(Record):
    """How a model is trained: optimizer, rates, batches, and how images are moved about.

    An optimizer reads the fields its formula in docs/training.md has; the others are without
    effect. `rate` is the highest rate: the schedule leads to it, or away from it.

    Attributes:
        optimizer: ``sgd``, ``adam``, ``adamw`` and ``rmsprop`` as torch has them, or
            ``rmsprop_tf``: TensorFlow's, with `eps` inside the root.
        momentum: Of ``sgd`` and both RMSprops; at 0 they keep no momentum.
        nesterov: The look-ahead of ``sgd``, which needs momentum.
        alpha: The weight of the old mean square in RMSprop; Keras calls it rho.
        initial_square_avg: Where the mean square of ``rmsprop_tf`` starts: 0 in Keras, 1 in
            TensorFlow 1.
        weight_decay: Added to the gradient times the parameter; in ``adamw`` taken off it instead.
        decay_all: Norms' weights and biases and the classifier's bias are decayed too, as in torch.
        clip_norm: The largest norm of all gradients together; 0 for any.
        ema_decay: The weight of the old average in a running average of the parameters, the slot
            ``ema``; 0 for none.
        label_smoothing: The part of each label that is spread evenly over all classes.
        schedule: How the rate goes on after `warmup_steps`; see `pymobilenet.training.rate_at`.
        warmup_steps: Steps in which the rate rises evenly to where the schedule begins.
        step_size: Of ``step``: the rate is multiplied by `gamma` every so many steps.
        milestones: Of ``milestones``: the steps at which the rate is multiplied by `gamma`.
        final_rate: Of ``cosine``: where the rate ends.
        pct_start: Of ``one_cycle``: the part of the steps in which the rate rises.
        div_factor: Of ``one_cycle``: `rate` over the first rate.
        final_div_factor: Of ``one_cycle``: the first rate over the last.
        accumulate: Into how many equal parts the images of a step are cut, each with its own
            pass and norm statistics; the parameters move once, by the mean of their gradients.
        steps: Of the whole run, warm-up included.
        seed: Fixes the order of the images, the crops and the flips (see
            `pymobilenet.data.BatchPlan`).
        crop_padding: Pixels.
        rotation: The most degrees by which images are turned, either way.
        cutout: Pixels of the side of the square that images lose.
        mixup: 1 mixes images in pairs. It is the alpha of a Beta distribution; of others there is
            no sampler that every language shares to the bit.
        preprocessing: What makes numbers of bytes: ``unit`` 0 ... 1, ``keras`` -1 ... 1,
            ``standard`` by the mean and deviation of the training images.

    Raises:
        ConfigError: A value outside its range; the message names field, rule and value.
    """

    optimizer: str = "sgd"
    rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    alpha: float = 0.99
    eps: float = 1e-8
    initial_square_avg: float = 0.0
    weight_decay: float = 0.0
    decay_all: bool = True
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    label_smoothing: float = 0.0
    schedule: str = "constant"
    warmup_steps: int = 0
    step_size: int = 0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    final_rate: float = 0.0
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    batch_size: int = 128
    accumulate: int = 1
    steps: int = 200
    seed: int = 0
    crop_padding: int = 4
    flip: bool = True
    rotation: int = 0
    cutout: int = 0
    mixup: float = 0.0
    preprocessing: str = "standard"

    _table = "train"

    def __post_init__(self) -> None:
        self._check_choice("optimizer", OPTIMIZERS)
        self._set_number("rate", float, 0, 1e6, "in [0, 1e6]")
        self._set_number("momentum", float, 0, 1, "in [0, 1]")
        self._check_flag("nesterov")
        self._set_number("beta1", float, 0, 1 - 1e-12, "in [0, 1)")
        self._set_number("beta2", float, 0, 1 - 1e-12, "in [0, 1)")
        self._set_number("alpha", float, 0, 1, "in [0, 1]")
        self._set_number("eps", float, 0, 1, "in [0, 1]")
        self._set_number("initial_square_avg", float, 0, 1e6, "in [0, 1e6]")
        self._set_number("weight_decay", float, 0, 1, "in [0, 1]")
        self._check_flag("decay_all")
        self._set_number("clip_norm", float, 0, 1e12, "in [0, 1e12]")
        self._set_number("ema_decay", float, 0, 1 - 1e-12, "in [0, 1)")
        self._set_number("label_smoothing", float, 0, 1, "in [0, 1]")
        self._check_choice("schedule", SCHEDULES)
        self._set_number("warmup_steps", int, 0, 10**9, "at least 0")
        self._set_number("step_size", int, 0, 10**9, "at least 0")
        self._set_increasing("milestones", 10**9)
        self._set_number("gamma", float, 0, 1, "in [0, 1]")
        self._set_number("final_rate", float, 0, 1e6, "in [0, 1e6]")
        self._set_number("pct_start", float, 0, 1, "in [0, 1]")
        self._set_number("div_factor", float, 1, 1e12, "in [1, 1e12]")
        self._set_number("final_div_factor", float, 1, 1e12, "in [1, 1e12]")
        self._set_number("batch_size", int, 1, 10**7, "at least 1")
        self._set_number("accumulate", int, 1, 10**7, "at least 1")
        self._set_number("steps", int, 0, 10**9, "at least 0")
        self._set_number("seed", int, 0, 2**63 - 1, "in [0, 2**63)")
        self._set_number("crop_padding", int, 0, 1024, "in [0, 1024] pixels")
        self._check_flag("flip")
        self._set_number("rotation", int, 0, 180, "in [0, 180] degrees")
        self._set_number("cutout", int, 0, 4096, "in [0, 4096] pixels")
        self._set_number("mixup", float, 0, 1, "0 (off) or 1 (uniform weights)")
        if self.mixup not in (0, 1):
            raise ConfigError(
                f"mixup must be 0 (off) or 1 (uniform weights). Received: {self.mixup!r}"
            )
        self._check_choice("preprocessing", PREPROCESSINGS)
        self._check_belonging()

    def _check_belonging(self) -> None:
        """What one optimizer or schedule alone has or cannot be without, and what has to fit."""
        if self.batch_size % self.accumulate:
            raise ConfigError(
                "accumulate must divide batch_size. "
                f"Received: {self.accumulate} with batch_size {self.batch_size}"
            )
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ConfigError(
                "nesterov belongs to sgd with momentum alone. "
                f"Received: {self.optimizer} with momentum {self.momentum!r}"
            )
        if self.initial_square_avg and self.optimizer != "rmsprop_tf":
            raise ConfigError(
                "initial_square_avg belongs to rmsprop_tf alone. "
                f"Received: {self.initial_square_avg!r} with {self.optimizer}"
            )
        if self.schedule == "step" and self.step_size == 0:
            raise ConfigError("step_size must be at least 1 for the schedule step. Received: 0")
        if self.schedule == "milestones" and not self.milestones:
            raise ConfigError(
                "milestones must not be empty for the schedule milestones. Received: ()"
            )

    @property
    def slots(self) -> tuple[str, ...]:
        """What is kept for each parameter, by the names in a weight file: the average of the
        parameters, then the optimizer's `moments`.

        Where there is nothing to keep, no steps are counted.
        """
        return (("ema",) if self.ema_decay > 0 else ()) + self.moments

    @property
    def moments(self) -> tuple[str, ...]:
        """The slots that the optimizer's rule moves; SGD without momentum has none."""
        if self.optimizer in ("adam", "adamw"):
            return ("exp_avg", "exp_avg_sq")
        momentum = ("momentum",) if self.momentum > 0 else ()
        return momentum if self.optimizer == "sgd" else (*momentum, "square_avg")

    def start_of(self, moment: str) -> float:
        """The value that every element of a moment has before the first step."""
        return self.initial_square_avg if moment == "square_avg" else 0.0
