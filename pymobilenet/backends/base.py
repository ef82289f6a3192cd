"""What every backend is: NumPy in, NumPy out, the same names, the same checks.

`Backend` makes models; `Model` is a net with its running statistics and, if one was set, its
optimizer. The public methods check what they are given, once, here; a backend implements the
methods with a leading underscore.
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
from pymobilenet.backends.probe import probe_metadata
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.errors import ConfigError
from pymobilenet.weights import State, check_state, initial_state
from pymobilenet.weights.state import slots_of

if TYPE_CHECKING:
    from pymobilenet.training import Callback, History


class Model(abc.ABC):
    """One MobileNet in one framework.

    Attributes:
        config (MobileNetConfig)
        dtype (numpy.dtype): float32 or float64: of the images, the results and the state.
        optimizer (TrainConfig or None): What `step` does; see `set_optimizer`.
        options (dict): The backend's own, as in `Backend.build`.
        is_main_process (bool): Whether this process writes files and prints. True for the first of
            several processes that train one model, and for a single process.
    """

    backend: Backend
    is_main_process = True

    def __init__(self, config: MobileNetConfig, dtype: np.dtype) -> None:
        self.config = config
        self.dtype = dtype
        self.optimizer: TrainConfig | None = None
        self.options: dict[str, Any] = {}

    def replica(self, state: Mapping[str, np.ndarray] | None = None, **changes: Any) -> Model:
        """Another model of this backend, with the same options and no moments.

        Args:
            state: Its parameters and running statistics; by default copies of this model's.
            changes: Fields of the config that are to be others.
        """
        config = replace(self.config, **changes)
        state = self.get_state() if state is None else state
        return self.backend.from_state(config, state, **self.options)

    # What a model computes

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits (N, classes) in evaluation mode, for images (N, C, H, W) of the model's dtype.

        Where the config has a softmax, probabilities.

        Raises:
            DataError: Images of another shape or dtype, or not finite.
        """
        return self._predict(checks.images(self.config, self.dtype, images))

    def freeze(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function that gives what `predict` gives now, for inference alone, and faster.

        Norms are folded into the convolutions, which rounds otherwise than `predict` does. What
        happens to the model later does not reach the function.
        """
        run = self._freeze()
        return lambda images: run(checks.images(self.config, self.dtype, images))

    def activations(
        self, images: np.ndarray, train: bool = False, masks: Mapping[str, np.ndarray] | None = None
    ) -> State:
        """Every activation by name, (N, C, H, W), then ``pool`` (N, C) and ``logits`` (N, classes),
        and with a softmax ``probabilities``.

        With `train`, norms use the batch's statistics; the running ones stay as they are.
        `masks` as in `loss_and_grads`.
        """
        images = checks.images(self.config, self.dtype, images)
        if train:
            checks.trainable(self.config, images)
        known = checks.masks(self.config, self.dtype, masks, images)
        return self._activations(images, train, known)

    def loss_and_grads(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[float, Mapping[str, np.ndarray]]:
        """Mean cross-entropy in training mode, and its gradient by parameter name.

        The model stays as it was: no running statistic moves.

        Args:
            images: (N, C, H, W), of the model's dtype.
            labels: (N,), integers in [0, classes); or (N, classes) of the model's dtype, a
                distribution in each row.
            masks: Optional. ``<layer>.act`` -> uint8 (N, C, H, W) from `activation_masks`: the
                linear piece of the activation that each value is treated as lying on. ``dropout``
                -> (N, C): factors for the pooled features; without it no feature is dropped.
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
        """One step of training: what `loss_and_grads` gives, and parameters, moments and running
        statistics moved on. Needs `set_optimizer` first.

        Where the optimizer's `accumulate` is not 1, the means over so many parts of the batch, one
        after the other; running statistics move with each.
        """
        if self.optimizer is None:
            raise ConfigError("step needs an optimizer: call set_optimizer(TrainConfig(...)) first")
        batch, micro_batches = Batch(images, labels, dict(masks or {})), self.optimizer.accumulate
        images, labels, known = checks.batch(self.config, self.dtype, batch, micro_batches)
        return self._step(images, labels, checks.rate(rate), known)

    def set_optimizer(self, config: TrainConfig) -> None:
        """Choose what `step` does, with all moments at their start and no step taken."""
        self.optimizer = config
        self._reset_optimizer(config)

    @property
    def slots(self) -> tuple[str, ...]:
        """The moments this model's optimizer keeps; none without an optimizer."""
        return () if self.optimizer is None else self.optimizer.slots

    @property
    def compute_options(self) -> dict[str, str]:
        """What this model computes by where its backend knows several ways, for logs."""
        return {}

    # The state

    @abc.abstractmethod
    def get_state(self) -> State:
        """A copy of parameters, running statistics and, with an optimizer, its moments."""

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over a whole state; see `pymobilenet.weights.check_state` for what is refused.

        A state with moments needs the optimizer they belong to; one without leaves them alone.
        """
        slots = slots_of(state)
        if slots and slots != tuple(sorted(self.slots)):
            mine = self.optimizer.optimizer if self.optimizer else None
            raise ConfigError(f"the state has moments {slots}, this model's optimizer is {mine}")
        check_state(self.config, state, self.dtype, slots)
        self._set_state({name: np.asarray(tensor, order="C") for name, tensor in state.items()})

    def save(self, path: str | Path) -> None:
        """Write config and state as the exchange file (see `pymobilenet.formats.exchange`).

        The file carries a probe (see `pymobilenet.backends.probe`), by which `pymobilenet verify`
        tells whether it still gives the logits it gave here.
        """
        from pymobilenet.formats.exchange import write_weights

        metadata = probe_metadata(self)
        write_weights(path, self.config, self.get_state(), self.backend.versions(), metadata)

    def fit(
        self, data: Any, config: TrainConfig, callbacks: Iterable[Callback] = (), start: int = 0
    ) -> History:
        """Train on a `pymobilenet.data.Dataset`; see `pymobilenet.training.fit`."""
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
        """What `fit` wraps its steps in: a backend may lay out its maps for speed meanwhile."""
        return nullcontext()

    # What a backend implements; arguments are checked, C-contiguous and of the model's dtype

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


class Backend(abc.ABC):
    """A framework that can hold a MobileNet. Get one from `pymobilenet.backend`."""

    name: str
    options: tuple[str, ...] = ()
    """What `build`, `from_state` and `load` take besides their own arguments."""

    @abc.abstractmethod
    def versions(self) -> dict[str, str]:
        """Library name -> version of everything that computes."""

    def threads(self) -> dict[str, int]:
        """Kind of thread -> how many this backend computes with, as far as it can tell."""
        return {}

    def product(self, a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
        """A function that multiplies two square matrices by what this backend multiplies with."""
        return lambda: a @ b

    def computes(self, _dtype: str) -> bool:
        """Whether models of this dtype can be built."""
        return True

    @abc.abstractmethod
    def _new(self, config: MobileNetConfig, dtype: np.dtype, **options: Any) -> Model:
        """A model whose weights are about to be set; `options` are the backend's own."""

    def build(
        self,
        config: MobileNetConfig,
        seed: int = 0,
        dtype: str | np.dtype = "float32",
        init: str = "he",
        **options: Any,
    ) -> Model:
        """A model with the initial weights of `seed`, the same bits in every backend.

        `init` is a rule's name: he, torch, flux, torchvision or keras (see
        `pymobilenet.weights.initial`).
        """
        state = initial_state(config, seed, checks.dtype(dtype), init)
        return self.from_state(config, state, **options)

    def from_state(
        self, config: MobileNetConfig, state: Mapping[str, np.ndarray], **options: Any
    ) -> Model:
        """A model with the parameters and running statistics of `state`, and its dtype.

        Moments in `state` are left out: `set_optimizer` and `set_state` bring them in.

        Raises:
            ConfigError: An option that this backend does not have, or of a value it does not know.
            BackendUnavailable: A device that is not there.
            WeightsError: A state that does not fit the config.
        """
        checks.options(self.name, self.options, options)
        weights = {k: v for k, v in state.items() if not k.startswith("optimizer.")}
        any_weight = weights.get("classifier.weight")
        dtype = checks.dtype(any_weight.dtype if any_weight is not None else "float32")
        check_state(config, weights, dtype)
        model = self._new(config, dtype, **options)
        model.options = options
        model.set_state(weights)
        return model

    def load(self, path: str | Path, **options: Any) -> Model:
        """A model from an exchange file, with the config and dtype the file names."""
        from pymobilenet.formats.exchange import read_weights

        file = read_weights(path, mmap=True)
        return self.from_state(file.config, file.state, **options)
