"""Pickling of models and frozen functions: by backend, config, options and state.

A pickle holds NumPy arrays alone, no object of a framework. Unpickling builds the model anew, also
in another process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pymobilenet.backends import checks
from pymobilenet.config import MobileNetConfig, TrainConfig
from pymobilenet.weights import state_shapes

if TYPE_CHECKING:
    from pymobilenet.backends.model import Model


def restore(
    backend_name: str,
    config: MobileNetConfig,
    options: Mapping[str, Any],
    state: Mapping[str, np.ndarray],
    optimizer: TrainConfig | None = None,
) -> Model:
    """Build the model of a pickle.

    Args:
        backend_name: See `pymobilenet.backends.backend`.
        config: The architecture.
        options: The options of `Backend.build`.
        state: `Model.get_state`, with the slots if there is an optimizer.
        optimizer: The argument of `Model.set_optimizer`.

    Returns:
        A new model.

    Raises:
        BackendUnavailable: The framework is not installed.
    """
    from pymobilenet.backends import backend  # not at the top: it imports the models

    model = backend(backend_name).from_state(config, state, **options)
    if optimizer is not None:
        model.set_optimizer(optimizer)
        model.set_state(state)
    return model


class FrozenModel:
    """A prediction function with a copy of a model's weights; see `Model.freeze`."""

    def __init__(self, model: Model, run: Callable[[np.ndarray], np.ndarray]) -> None:
        """Store what a call and a pickle need.

        Args:
            model: The model that was frozen.
            run: The function of its backend, on checked images.
        """
        self._config, self._dtype, self._run = model.config, model.dtype, run
        self._backend_name, self._options = model.backend.name, dict(model.options)
        state = model.get_state()
        self._weights = {name: state[name] for name in state_shapes(model.config)}

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Predict; arguments, results and errors are those of `Model.predict`."""
        return self._run(checks.images(self._config, self._dtype, images))

    def __reduce__(self) -> tuple[Any, ...]:
        return _refreeze, (self._backend_name, self._config, self._options, self._weights)


def _refreeze(*arguments: Any) -> Callable[[np.ndarray], np.ndarray]:
    return restore(*arguments).freeze()
