"""How exact a backend is in float32, beside torch.

A backend may be several times less exact than torch and still within the floors: a sum in the wrong
order, or a mean that loses two bits. So its activations in training mode are also judged by their
distance from the float64 oracle, in multiples of torch's own:

- in the median activation, of torch's distance in the contiguous layout, in which it is compared;
- in every activation, of the larger of torch's distances in its two memory layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pymobilenet.backends import backend
from pymobilenet.parity.figures import activation_errors
from pymobilenet.parity.judge import Divergence
from pymobilenet.parity.observe import Observations, observe_outputs
from pymobilenet.parity.reference import Reference
from pymobilenet.parity.tolerances import MAX_ACTIVATION_RATIO

Errors = Mapping[str, float]
"""Activation -> distance from the oracle, in forward order."""


@dataclass(frozen=True)
class Accuracy:
    """The distances of one backend's activations from the oracle, and torch's.

    Attributes:
        scenario: The name of the scenario.
        backend: The backend that is judged.
        errors: Of that backend.
        contiguous: Of torch in its contiguous memory format.
        channels_last: Of torch in its channels_last memory format.
    """

    scenario: str
    backend: str
    errors: Errors
    contiguous: Errors
    channels_last: Errors

    @property
    def typical(self) -> float:
        """The median multiple of torch's distance in the contiguous layout."""
        return float(np.median([self._ratio(name, self.contiguous[name]) for name in self.errors]))

    @property
    def largest(self) -> tuple[str, float]:
        """The activation with the largest multiple of torch's larger distance, and the multiple."""
        ratios = {name: self._ratio(name, self._larger(name)) for name in self.errors}
        name = max(ratios, key=lambda name: ratios[name])
        return name, ratios[name]

    @property
    def passed(self) -> bool:
        """Whether the median and every activation are within `MAX_ACTIVATION_RATIO`."""
        return max(self.typical, self.largest[1]) <= MAX_ACTIVATION_RATIO

    @property
    def divergence(self) -> Divergence | None:
        """The first activation that is too far from the oracle; None if the backend passed.

        `Divergence.floor` is the distance that the activation may have.
        """
        if self.passed:
            return None
        references = {name: self._larger(name) for name in self.errors}
        if self.typical > MAX_ACTIVATION_RATIO:
            references = dict(self.contiguous)
        name = next(
            name
            for name in self.errors
            if self._ratio(name, references[name]) > MAX_ACTIVATION_RATIO
        )
        error, allowed = self.errors[name], MAX_ACTIVATION_RATIO * references[name]
        return Divergence(
            self.scenario, 1, "forward", "accuracy", name, None, self.backend, error, allowed
        )

    def _larger(self, name: str) -> float:
        return max(self.contiguous[name], self.channels_last[name])

    def _ratio(self, name: str, reference: float) -> float:
        error = self.errors[name]
        if error == 0:
            return 0.0
        return error / reference if reference else float("inf")


def torch_errors(
    reference: Reference, memory_format: str, transform: Callable[[Observations], Observations]
) -> Errors:
    """Return the distances of torch's activations in a scenario.

    Args:
        reference: The oracle's run of the scenario.
        memory_format: contiguous or channels_last.
        transform: Is applied to observations before they are compared.
    """
    scenario = reference.scenario
    model = backend("torch").build(
        scenario.config, dtype=scenario.dtype, memory_format=memory_format
    )
    outputs = observe_outputs(model, reference.inputs)
    return activation_errors(transform(outputs), transform(reference.observations))


def activation_accuracies(
    reference: Reference,
    errors: Mapping[str, Errors],
    transform: Callable[[Observations], Observations] = lambda observations: observations,
) -> list[Accuracy]:
    """Judge the activations of backends in a scenario by torch's.

    Args:
        reference: The oracle's run of the scenario.
        errors: Backend -> its distances from the oracle, of transformed observations.
        transform: Is applied to torch's and the oracle's observations before they are compared.

    Returns:
        One for each backend; none in float64, in which the oracle itself rounds as they do.
    """
    if reference.scenario.dtype != "float32":
        return []
    layouts = [
        torch_errors(reference, memory_format, transform)
        for memory_format in ("contiguous", "channels_last")
    ]
    return [Accuracy(reference.scenario.name, name, one, *layouts) for name, one in errors.items()]
