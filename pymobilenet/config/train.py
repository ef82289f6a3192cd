"""Optimizer, schedule, batches and augmentation, as a frozen, validated dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from pymobilenet.config.record import Record
from pymobilenet.errors import ConfigError

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "rmsprop_tf")
SCHEDULES = ("constant", "step", "milestones", "cosine", "one_cycle")
PREPROCESSINGS = ("unit", "standard", "keras")


@dataclass(frozen=True)
class TrainConfig(Record):
    """How a model is trained: optimizer, learning-rate schedule, batches and augmentation.

    docs/training.md has the formulas. An optimizer or schedule ignores the fields that its formula
    does not contain.

    Attributes:
        optimizer: ``sgd``, ``adam``, ``adamw`` and ``rmsprop`` as in PyTorch, or ``rmsprop_tf`` as
            in TensorFlow, with `eps` inside the root.
        rate: The highest learning rate of the schedule.
        momentum: For ``sgd``, ``rmsprop`` and ``rmsprop_tf``; 0 disables momentum.
        nesterov: Whether ``sgd`` uses Nesterov momentum.
        beta1: For ``adam`` and ``adamw``: decay of the first moment.
        beta2: For ``adam`` and ``adamw``: decay of the second moment.
        alpha: For ``rmsprop`` and ``rmsprop_tf``: decay of the mean square (rho in Keras).
        eps: Added to the denominator of all optimizers but ``sgd``.
        initial_square_avg: For ``rmsprop_tf``: initial value of the mean square, 0 in Keras, 1 in
            TensorFlow 1.
        weight_decay: L2 regularization, added to the gradient; for ``adamw`` decoupled weight
            decay.
        decay_all: Whether 1-D parameters (norms and biases) are decayed, too, as in PyTorch.
        clip_norm: Largest norm of all gradients together; 0 disables clipping.
        ema_decay: Decay of the exponential moving average of the parameters (slot ``ema``); 0
            disables it.
        label_smoothing: The part of each label that is spread evenly over all classes.
        schedule: ``constant``, ``step``, ``milestones``, ``cosine`` or ``one_cycle``, after the
            warm-up; see `pymobilenet.training.rate_at`.
        warmup_steps: Number of steps of linear warm-up.
        step_size: For ``step``: the rate is multiplied by `gamma` every so many steps.
        milestones: For ``milestones``: the steps at which the rate is multiplied by `gamma`.
        gamma: For ``step`` and ``milestones``: the factor.
        final_rate: For ``cosine``: the last learning rate.
        pct_start: For ``one_cycle``: the fraction of the steps in which the rate increases.
        div_factor: For ``one_cycle``: `rate` divided by the first rate.
        final_div_factor: For ``one_cycle``: the first rate divided by the last.
        batch_size: Number of images per step.
        accumulate: Number of equal micro-batches per step (gradient accumulation). Each has its own
            forward and backward pass and norm statistics; gradients are averaged.
        steps: Number of steps, including the warm-up.
        seed: Seed of the order of the images and of augmentation; see `pymobilenet.data.BatchPlan`.
        crop_padding: Random crops: pixels of padding on each side; 0 disables them.
        flip: Whether images are flipped horizontally with probability 1/2.
        rotation: Largest angle of random rotations, in degrees; 0 disables them.
        cutout: Side of the random square that is erased, in pixels; 0 disables it.
        mixup: 1 mixes images in pairs with uniform weights, 0 disables it. (It is the alpha of a
            Beta distribution; only for 1 there is a sampler that is bit-identical in every
            language.)
        preprocessing: Conversion of bytes to numbers: ``unit`` to [0, 1], ``keras`` to [-1, 1],
            ``standard`` by the mean and standard deviation of the training images.

    Raises:
        ConfigError: A value is outside its range. The message names field, rule and value.
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
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Check fields that depend on each other."""
        if self.batch_size % self.accumulate:
            raise ConfigError(
                "accumulate must divide batch_size. "
                f"Received: {self.accumulate} with batch_size {self.batch_size}"
            )
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ConfigError(
                "nesterov requires the optimizer sgd with momentum. "
                f"Received: {self.optimizer} with momentum {self.momentum!r}"
            )
        if self.initial_square_avg and self.optimizer != "rmsprop_tf":
            raise ConfigError(
                "initial_square_avg requires the optimizer rmsprop_tf. "
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
        """The optimizer slots of each parameter, as named in a weight file.

        The average of the parameters (``ema``), if there is one, then `moments`. An optimizer
        without slots does not count its steps.
        """
        return (("ema",) if self.ema_decay > 0 else ()) + self.moments

    @property
    def moments(self) -> tuple[str, ...]:
        """The slots that the optimizer's rule updates; SGD without momentum has none."""
        if self.optimizer in ("adam", "adamw"):
            return ("exp_avg", "exp_avg_sq")
        momentum = ("momentum",) if self.momentum > 0 else ()
        return momentum if self.optimizer == "sgd" else (*momentum, "square_avg")

    def start_of(self, moment: str) -> float:
        """Return the initial value of every element of a moment.

        Args:
            moment: One of `moments`.
        """
        return self.initial_square_avg if moment == "square_avg" else 0.0
