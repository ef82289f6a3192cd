"""Scenarios: the state to start from and a few batches, the same bits in every backend.

The standard scenarios are small, and chosen so that no branch of a backend is left out: see
`STANDARD_CONFIGS`, `IMAGE_SIZE`, `BATCH_SIZE` and `WORKING_RECIPES`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np

from pymobilenet.architecture import parameter_shapes
from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.data import Dataset
from pymobilenet.parity.kinks import past_kinks
from pymobilenet.philox import Stream, raw_words, uniform64
from pymobilenet.training import Batches
from pymobilenet.weights import OPTIMIZER_STEP, State, initial_state

IMAGE_SIZE = (33, 65)
"""Rows and columns of the images. They are odd, so that pixels are left over where work is divided
into vectors, tiles and threads; and so different that no map is square, not even the last."""

BATCH_SIZE = 15
"""Images of a batch, which two threads cannot divide equally, and neither can they the five images
of a micro-batch."""

MAX_IMAGES = 4096
"""Images of a data set from which the batches are drawn, at most."""

WORKING_RECIPES = (
    TrainConfig(
        optimizer="sgd", rate=0.1, batch_size=BATCH_SIZE, clip_norm=1.0, label_smoothing=0.1
    ),
    TrainConfig(optimizer="adam", rate=1e-3, batch_size=BATCH_SIZE, accumulate=3),
)
"""The recipes at working rates whose first steps level 3 compares. The whole first batch of the
first recipe is also that of levels 1 and 2."""

_ANY = MobileNetConfig(resolution=32, num_classes=100)
STANDARD_CONFIGS = (
    replace(_ANY, width_mult=0.15, padding="keras", dropout=0.25, softmax=True),
    replace(_ANY, width_mult=0.3, stem_stride=1),
    replace(_ANY, family="v2", width_mult=0.35),
)
"""The nets that are compared by default; levels 4 and 6 use the first, which is the smallest. In V1
with width multipliers 0.15 and 0.3 most numbers of channels (4, 9, 19, ..., 307) are not multiples
of a vector register's length; with stem stride 1 a frozen Julia model computes its first layers for
several micro-batches."""

# Ranges of values that training would move away from 0 and 1.
_JITTER = {
    "norm.weight": (0.8, 1.2),
    "norm.bias": (-0.2, 0.2),
    "running_mean": (-0.2, 0.2),
    "running_var": (0.7, 1.5),
    "classifier.bias": (-0.1, 0.1),
}


@dataclass(frozen=True)
class Scenario:
    """One comparison of levels 0 to 3.

    Two steps show everything that an optimizer does with its moments. After more free steps at a
    working rate, float32 runs diverge chaotically: floors reach the size of the tensors. In
    ``v1_bottleneck``, which is deeper than V1 and has few channels, they do so after the second.

    Attributes:
        config: The net.
        dtype: float32 or float64.
        batch_size: Images in a batch, N.
        steps: Steps of level 3; 0 for the default: 1 for ``v1_bottleneck`` in float32, else 2.
        seed: Of the initial weights and of the order of the images.
        image_size: Rows and columns of the images (see `resized`).
    """

    config: MobileNetConfig
    dtype: str
    batch_size: int = BATCH_SIZE
    steps: int = 0
    seed: int = 0
    image_size: tuple[int, int] = IMAGE_SIZE

    def __post_init__(self) -> None:
        """Set the default number of steps; JSON has lists in place of tuples."""
        object.__setattr__(self, "image_size", tuple(self.image_size))
        if self.steps == 0:
            is_chaotic = self.config.family == "v1_bottleneck" and self.dtype == "float32"
            object.__setattr__(self, "steps", 1 if is_chaotic else 2)

    @property
    def name(self) -> str:
        """Family, width multiplier, stem stride and dtype, such as ``v1-0.25-stem1-float64``."""
        config = self.config
        return f"{config.family}-{config.width_mult:g}-stem{config.stem_stride}-{self.dtype}"

    def inputs(self, data: Dataset) -> Inputs:
        """Return the state and the batches, of images of `data`."""
        images = resized(data, self.image_size)

        def batches(recipe: TrainConfig) -> tuple[Batch, ...]:
            train = replace(recipe, batch_size=self.batch_size, seed=self.seed)
            drawn = Batches(images, train, self.config, self.dtype)
            return tuple(drawn.at(step) for step in range(self.steps))

        return Inputs(
            config=self.config,
            state=past_kinks(start_state(self.config, self.seed, self.dtype), self.config),
            batches={recipe.optimizer: batches(recipe) for recipe in WORKING_RECIPES},
        )


@dataclass(frozen=True)
class Inputs:
    """The arrays of a scenario.

    Attributes:
        config: The net.
        state: The state to start from.
        batches: Optimizer -> the batch of each step: images (N, C, H, W), labels (N,) or
            (N, classes), and masks: dropout factors and, after `reference.prepared`, the oracle's
            activation masks.
    """

    config: MobileNetConfig
    state: State
    batches: dict[str, tuple[Batch, ...]]

    @property
    def first(self) -> Batch:
        """The first batch of the first recipe, which levels 1 and 2 use."""
        return self.batches[WORKING_RECIPES[0].optimizer][0]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of images and state."""
        return self.first.images.dtype

    def astype(self, dtype: np.dtype | str) -> Inputs:
        """Return the inputs with all floating-point arrays in `dtype`."""
        state = {name: tensor.astype(dtype) for name, tensor in self.state.items()}
        batches = {
            name: tuple(batch.astype(dtype) for batch in steps)
            for name, steps in self.batches.items()
        }
        return Inputs(self.config, state, batches)

    def load_into(self, model: Model, optimizer: TrainConfig | None = None) -> None:
        """Set the model's state and, if `optimizer` is given, its optimizer with moments.

        Args:
            model: A model of any backend.
            optimizer: The training configuration; without one the optimizer is unchanged.
        """
        model.set_state(self.state)
        if optimizer is not None:
            model.set_optimizer(optimizer)
            moments = start_moments(self.config, optimizer, self.dtype.name)
            if moments:
                model.set_state({**self.state, **moments})

    def digest(self) -> str:
        """Return the SHA-256 of config, state and batches, in hex; names are sorted."""
        hasher = hashlib.sha256(self.config.to_json().encode())
        for name in sorted(self.state):
            hasher.update(name.encode())
            hasher.update(np.ascontiguousarray(self.state[name]).data)
        for batch in (batch for name in sorted(self.batches) for batch in self.batches[name]):
            masks = [batch.masks[name] for name in sorted(batch.masks)]
            for array in (batch.images, batch.labels, *masks):
                hasher.update(np.ascontiguousarray(array).data)
        return hasher.hexdigest()


def resized(data: Dataset, size: tuple[int, int] = IMAGE_SIZE) -> Dataset:
    """Return the first `MAX_IMAGES` images of a data set in another size.

    Images that are too small are repeated below and to the right, those that are too large are cut.

    Args:
        data: Images of any size.
        size: Rows and columns of the new images.
    """
    first = data.subset(np.arange(min(len(data), MAX_IMAGES)))
    rows, columns = (
        np.arange(new) % old for new, old in zip(size, data.images.shape[2:], strict=True)
    )
    return replace(first, images=first.images[:, :, rows[:, None], columns])


def start_state(config: MobileNetConfig, seed: int, dtype: str) -> State:
    """Return the initial weights of `seed`, with norms and biases moved off 0 and 1.

    At 0 and 1 a swapped mean, a missing bias or a wrong running variance would not show.

    Args:
        config: The net.
        seed: Of the weights.
        dtype: float32 or float64; the values are those of float32 in both.
    """
    state = initial_state(config, seed, dtype)
    for index, (name, tensor) in enumerate(state.items()):
        limits = next((pair for kind, pair in _JITTER.items() if name.endswith(kind)), None)
        if limits is not None:
            low, high = limits
            u = uniform64(raw_words(seed, Stream.PROBE, 0, index, tensor.size))
            values = (low + (high - low) * u).astype(np.float32)
            state[name] = values.reshape(tensor.shape).astype(dtype)
    return state


def start_moments(config: MobileNetConfig, optimizer: TrainConfig, dtype: str) -> State:
    """Return moments as if Adam had taken ten steps; none for SGD, which starts from zero.

    Adam's first step from zero is the *sign* of the gradient: where a value of the gradient is
    smaller than its rounding, two correct programs move a weight by the rate in opposite
    directions. From moments of a common size the step is a smooth function of the gradient.

    Args:
        config: The net.
        optimizer: The training configuration.
        dtype: float32 or float64.

    Returns:
        ``optimizer.<slot>.<parameter>`` -> array of the parameter's shape.
    """
    if optimizer.optimizer != "adam":
        return {}
    moments: State = {OPTIMIZER_STEP: np.array(10, np.int64)}
    for index, (name, shape) in enumerate(parameter_shapes(config).items()):
        u = uniform64(raw_words(0, Stream.PROBE, 3, index, math.prod(shape))).reshape(shape)
        first, second = 0.01 * (2 * u - 1), 0.0001 * (0.5 + u)
        moments[f"optimizer.exp_avg.{name}"] = first.astype(np.float32).astype(dtype)
        moments[f"optimizer.exp_avg_sq.{name}"] = second.astype(np.float32).astype(dtype)
    return moments
