"""The model of every backend: NumPy arrays in and out, the same names, the same checks.

The public methods of `Model` validate their arguments; a backend implements the methods with a
leading underscore.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet.backends import checks
from pymobilenet.backends.batch import Batch
from pymobilenet.backends.part import Part
from pymobilenet.backends.pickling import FrozenModel, restore
from pymobilenet.backends.probe import probe_metadata
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import State, check_state
from pymobilenet.weights.state import slots_of

if TYPE_CHECKING:
    from pymobilenet.backends.base import Backend
    from pymobilenet.training import Callback, History


class Model(abc.ABC):
    """One MobileNet in one framework. Built by `Backend.build`, `Backend.load` and others.

    Shapes below use N for the batch, C for `config.in_channels`, H and W for any image size.

    Attributes:
        config (MobileNetConfig): The architecture.
        dtype (numpy.dtype): float32 or float64; the dtype of images, results and state.
        optimizer (TrainConfig or None): The optimizer of `step`; see `set_optimizer`.
        options (dict): The backend's options, as passed to `Backend.build`.
        is_main_process (bool): Whether this process writes files and prints. True for a single
            process and for rank 0 of a distributed run.
    """

    backend: Backend
    is_main_process = True

    def __init__(self, config: MobileNetConfig, dtype: np.dtype) -> None:
        self.config = config
        self.dtype = dtype
        self.optimizer: TrainConfig | None = None
        self.options: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.backend.name, self.config, self.options, self.get_state())
        return restore, (*arguments, self.optimizer)

    def replica(self, state: Mapping[str, np.ndarray] | None = None, **changes: Any) -> Model:
        """Build another model with the same backend and options, without an optimizer.

        Args:
            state: Parameters and running statistics. Default: a copy of this model's.
            changes: Fields of the config to replace.

        Returns:
            A new model, which shares no memory with this one.

        Raises:
            ConfigError: A changed field is invalid.
            WeightsError: The state does not fit the config.
        """
        config = replace(self.config, **changes)
        state = self.get_state() if state is None else state
        return self.backend.from_state(config, state, **self.options)

    # Inference and gradients

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Compute logits in evaluation mode.

        Args:
            images: (N, C, H, W), normalised, of the model's dtype.

        Returns:
            (N, classes), of the model's dtype: logits, or probabilities if `config.softmax`.

        Raises:
            DataError: The images have another shape or dtype, or contain NaN or infinity.

        Examples:
            >>> import numpy as np
            >>> from pymobilenet import MobileNetConfig, backend
            >>> config = MobileNetConfig("v1", width_mult=0.25, resolution=32, num_classes=10)
            >>> model = backend("torch").build(config, seed=0)
            >>> model.predict(np.zeros((2, 3, 32, 32), np.float32)).shape
            (2, 10)
        """
        return self._predict(checks.images(self.config, self.dtype, images))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the pooled features (N, C) in evaluation mode: what the classifier reads.

        Args:
            images: (N, C, H, W), of the model's dtype.

        Raises:
            DataError: Images of another shape or dtype, or not finite.
        """
        return self.activations(images)["pool"]

    def freeze(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return a fast prediction function with a copy of the current weights.

        Batch norms are folded into the convolutions, so that results differ from `predict` by
        rounding. Later changes of the model do not affect the function.

        Returns:
            A function with the arguments, results and errors of `predict`. It can be pickled.
        """
        return FrozenModel(self, self._freeze())

    def activations(
        self, images: np.ndarray, train: bool = False, masks: Mapping[str, np.ndarray] | None = None
    ) -> State:
        """Compute every activation of a forward pass. The model does not change.

        Args:
            images: (N, C, H, W), of the model's dtype.
            train: Whether batch norms use the statistics of the batch.
            masks: As in `loss_and_grads`.

        Returns:
            Arrays by name, of the model's dtype, in forward order: ``<layer>.conv``,
            ``<layer>.norm``, ``<layer>.act`` and ``<block>.add`` (N, channels, H', W'), then
            ``pool`` (N, channels), ``logits`` (N, classes) and, if `config.softmax`,
            ``probabilities`` (N, classes). See `pymobilenet.architecture.activation_names`.

        Raises:
            DataError: The images or masks are invalid, or the batch has one value per channel.
        """
        images = checks.images(self.config, self.dtype, images)
        if train:
            checks.trainable(self.config, images)
        checked_masks = checks.masks(self.config, self.dtype, masks, images)
        return self._activations(images, train, checked_masks)

    def loss_and_grads(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[float, Mapping[str, np.ndarray]]:
        """Compute the mean cross-entropy in training mode, and its gradients.

        The model does not change; its running statistics are not updated.

        Args:
            images: (N, C, H, W), of the model's dtype.
            labels: (N,), integers in [0, classes); or (N, classes), of the model's dtype, with a
                probability distribution in each row.
            masks: Optional. ``<layer>.act`` -> uint8 (N, channels, H', W'), from
                `activation_masks`: which linear piece of the activation function to use for each
                value. ``dropout`` -> (N, channels), of the model's dtype: factors that multiply the
                pooled features. Without it, no feature is dropped.

        Returns:
            The loss, and gradients by parameter name, with the shapes of the parameters and the
            model's dtype.

        Raises:
            DataError: Images, labels or masks are invalid, or the batch has one value per channel.
        """
        batch = Batch(images, labels, dict(masks or {}))
        return self._loss_and_grads(*checks.batch(self.config, self.dtype, batch))

    def step(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        rate: float,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[float, Mapping[str, np.ndarray]]:
        """Take one training step: update parameters, moments and running statistics.

        With gradient accumulation (`TrainConfig.accumulate`), the batch is split into equal
        micro-batches, computed one after the other. Running statistics are updated by each.

        Args:
            images: As in `loss_and_grads`. N must be a multiple of `TrainConfig.accumulate`.
            labels: As in `loss_and_grads`.
            rate: The learning rate, finite and at least 0.
            masks: As in `loss_and_grads`.

        Returns:
            The loss before the update and the gradients (before clipping), as `loss_and_grads`;
            with gradient accumulation their means over the micro-batches.

        Raises:
            ConfigError: `set_optimizer` has not been called, or the rate is invalid.
            DataError: Images, labels or masks are invalid. The model is then unchanged.
        """
        if self.optimizer is None:
            raise ConfigError(
                "step requires an optimizer: call set_optimizer(TrainConfig(...)) first"
            )
        batch, micro_batches = Batch(images, labels, dict(masks or {})), self.optimizer.accumulate
        images, labels, checked_masks = checks.batch(self.config, self.dtype, batch, micro_batches)
        return self._step(images, labels, checks.rate(rate), checked_masks)

    def set_optimizer(self, config: TrainConfig) -> None:
        """Create a new optimizer, with all moments at their initial values.

        Args:
            config: The optimizer and its hyperparameters. The learning rate is an argument of
                `step`.
        """
        self.optimizer = config
        self._reset_optimizer(config)

    @property
    def slots(self) -> tuple[str, ...]:
        """The optimizer slots of this model, such as ``("momentum",)``; empty without optimizer."""
        return () if self.optimizer is None else self.optimizer.slots

    @property
    def compute_options(self) -> dict[str, str]:
        """The effective settings that affect results or speed (layout, device, ...), for logs."""
        return {}

    def split(self, cut: int) -> tuple[Part, Part]:
        """Cut the model into two functions of arrays with gradients, which share its arrays.

        Args:
            cut: The number of blocks in front of the cut; the stem is in front of every cut.

        Returns:
            Front and back, so that ``back(front(images))`` are the model's logits.

        Raises:
            ConfigError: The model has fewer blocks, or its backend cannot cut models.

        Examples:
            >>> import numpy as np
            >>> from pymobilenet import MobileNetConfig, backend
            >>> config = MobileNetConfig("v1", width_mult=0.25, resolution=32, num_classes=10)
            >>> front, back = backend("torch").build(config, seed=0).split(3)
            >>> maps = front(np.ones((2, 3, 32, 32), np.float32))
            >>> maps.shape, back(maps).shape
            ((2, 32, 8, 8), (2, 10))
        """
        raise ConfigError(
            f"split requires a model of numpy, torch or julia on the CPU of this process. "
            f"Received: a model of {self.backend.name}, cut at {cut!r}"
        )

    # State

    @abc.abstractmethod
    def get_state(self) -> State:
        """Return a copy of the state.

        Returns:
            Arrays by canonical name, in canonical order: parameters and running statistics of the
            model's dtype, then ``optimizer.<slot>.<parameter>`` and ``optimizer.step`` (int64, ())
            if the optimizer has slots. See `pymobilenet.weights`.
        """

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace the state with a copy of `state`.

        A state without optimizer slots leaves the model's moments unchanged.

        Args:
            state: A complete state, as `get_state` returns it; see
                `pymobilenet.weights.check_state`.

        Raises:
            ConfigError: The state has the slots of an optimizer that this model does not have.
            WeightsError: A tensor is missing, unknown, not finite, or of the wrong shape or dtype.
                The model is then unchanged.
        """
        slots = slots_of(state)
        if slots and slots != tuple(sorted(self.slots)):
            optimizer = self.optimizer.optimizer if self.optimizer else None
            raise ConfigError(
                f"the optimizer slots of a state must be those of the model's optimizer, "
                f"{optimizer}: {self.slots}. Received: {slots}"
            )
        check_state(self.config, state, self.dtype, slots)
        self._set_state({name: np.asarray(tensor, order="C") for name, tensor in state.items()})

    def save(self, path: str | Path) -> None:
        """Write the config and the state to an exchange file.

        The file also contains a probe: the logits of a few generated images, with which
        ``pymobilenet verify`` checks the file on another machine. See
        `pymobilenet.formats.exchange` and `pymobilenet.backends.probe`.

        Args:
            path: The file to write. It is replaced atomically.

        Raises:
            OSError: The file cannot be written.
        """
        from pymobilenet.formats.exchange import write_weights

        state = self.get_state()
        metadata = probe_metadata(self, state)
        write_weights(path, self.config, state, self.backend.versions(), metadata)

    # Training

    def fit(
        self, data: Any, config: TrainConfig, callbacks: Iterable[Callback] = (), start: int = 0
    ) -> History:
        """Train the model; see `pymobilenet.training.fit`.

        Args:
            data: A `pymobilenet.data.Dataset` of training images (N, C, H, W), uint8.
            config: Optimizer, schedule, batch size, number of steps, augmentation and seed.
            callbacks: Functions that are called after each step with a
                `pymobilenet.training.StepRecord`: step, loss and learning rate.
            start: The step to continue from. If it is not 0, the model keeps its optimizer, which
                must have been set from the same config.

        Returns:
            The loss of each step, and the model's compute options.

        Raises:
            ConfigError: `start` is not 0 and the model's optimizer is not that of `config`.
            DataError: The images or labels do not fit the model.
        """
        from pymobilenet.training import fit

        return fit(self, data, config, callbacks, start)

    def any_rank(self, flag: bool) -> bool:
        """Return whether `flag` is true in any of the processes that train this model.

        Every process must call it.

        Args:
            flag: This process's value.
        """
        return flag

    def fitting(self) -> AbstractContextManager[None]:
        """Return the context manager in which `fit` takes its steps.

        Inside, a backend may use a faster memory layout, and the arrays that `step` returns may be
        valid until the next step only.
        """
        return nullcontext()

    # Implemented by backends. Arguments are checked, C-contiguous and of the model's dtype.

    @abc.abstractmethod
    def _predict(self, images: np.ndarray) -> np.ndarray: ...

    def _freeze(self) -> Callable[[np.ndarray], np.ndarray]:
        return self.replica()._predict

    @abc.abstractmethod
    def _activations(
        self, images: np.ndarray, train: bool, masks: dict[str, np.ndarray]
    ) -> State: ...

    @abc.abstractmethod
    def _loss_and_grads(
        self, images: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]
    ) -> tuple[float, Mapping[str, np.ndarray]]: ...

    @abc.abstractmethod
    def _step(
        self, images: np.ndarray, labels: np.ndarray, rate: float, masks: dict[str, np.ndarray]
    ) -> tuple[float, Mapping[str, np.ndarray]]: ...

    @abc.abstractmethod
    def _reset_optimizer(self, config: TrainConfig) -> None: ...

    @abc.abstractmethod
    def _set_state(self, state: Mapping[str, np.ndarray]) -> None: ...
