"""A part of the oracle's MobileNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pymobilenet.architecture import Layer
from pymobilenet.backends.numpy_network import NumpyNetwork
from pymobilenet.backends.part import Part, Pullback
from pymobilenet.errors import DataError
from pymobilenet.weights import State


class NumpyPart(Part):
    """Some layers of the oracle and, in a back, its classifier.

    Args:
        network: The network they belong to.
        layers: The layers of this part, in order.
        has_classifier: Whether pooling, dropout and classifier belong to it.
    """

    def __init__(
        self, network: NumpyNetwork, layers: Sequence[Layer], has_classifier: bool
    ) -> None:
        self._network, self._layers, self._has_classifier = network, layers, has_classifier

    def __call__(
        self, x: np.ndarray, train: bool = False, masks: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Compute the output; see `Part.__call__`."""
        return self.pullback(x, train, masks)[0]

    def pullback(
        self, x: np.ndarray, train: bool = False, masks: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Pullback]:
        """Compute the output and its pullback; see `Part.pullback`."""
        chosen = dict(masks or {})
        passes = list(self._network.passes(x, train, chosen, self._layers))
        if train:
            self._network.update_running(passes)
        last = passes[-1].output if passes else x
        output = self._network.scores(last, chosen) if self._has_classifier else last

        def pull_back(gradient: np.ndarray) -> tuple[np.ndarray, State]:
            if gradient.shape != output.shape:
                raise DataError(
                    f"the gradient of a part's output must have its shape {output.shape}. "
                    f"Received: {gradient.shape}"
                )
            grads: State = {}
            if self._has_classifier:
                gradient = self._network.scores_backward(last, chosen, gradient, grads)
            return self._network.units_backward(passes, gradient, grads), grads

        return output, pull_back

    def activations(
        self, x: np.ndarray, train: bool, masks: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, State]:
        """Return output and activations; see `Part.activations`."""
        chosen = dict(masks)
        passes = list(self._network.passes(x, train, chosen, self._layers))
        activations = self._network.activations_of(passes)
        output = passes[-1].output if passes else x
        if self._has_classifier:
            activations |= self._network.activations_of_scores(output, chosen)
            output = activations["logits"]
        return output, activations
