"""A part of a MobileNets.jl model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pymobilenet.architecture import Layer
from pymobilenet.backends.checks import DROPOUT
from pymobilenet.backends.julia.calls import Calls, Handle
from pymobilenet.backends.julia.layer import OF_INPUTS, OF_PARAMETERS, JuliaLayer
from pymobilenet.backends.part import Part, Pullback
from pymobilenet.weights import State


class JuliaPart(Part):
    """A ``Part`` of MobileNets.jl, whose maps at the cut are channels last in memory.

    Args:
        calls: Of the backend.
        model: The handle of the model.
        cut: The number of blocks in front of the cut.
        side: "front" or "back".
        layers: The layers of this part.
        is_channels_last: Whether the maps at the cut have torch's ``channels_last`` layout in
            memory, which the fast kernels use; otherwise they are contiguous.

    Attributes:
        layer (JuliaLayer): The part, with the arrays of the model.
        enters_channels_last (bool): Whether `layer` takes maps (N, H, W, C).
        leaves_channels_last (bool): Whether `layer` returns maps (N, H, W, C).
    """

    def __init__(
        self,
        calls: Calls,
        model: Handle | None,
        cut: int,
        side: str,
        layers: list[Layer],
        is_channels_last: bool,
    ) -> None:
        shared = calls("cut", [model], number=cut, flag=is_channels_last, text=side)
        self._calls, self._shared = calls, shared
        self.layer = JuliaLayer(calls, shared)
        self.enters_channels_last = is_channels_last and side == "back"
        self.leaves_channels_last = is_channels_last and side == "front"
        names = {f"{layer.name}.act" for layer in layers if layer.activation}
        self._mask_names = names | ({DROPOUT} if side == "back" else set())

    def chosen(self, masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the masks of this part.

        Args:
            masks: As in `Model.loss_and_grads`.
        """
        return {name: mask for name, mask in masks.items() if name in self._mask_names}

    def __call__(
        self, x: np.ndarray, train: bool = False, masks: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Compute the output; see `Part.__call__`."""
        (output,), _ = self.layer.call([self._entering(x)], train, 0, self.chosen(masks or {}))
        return self._leaving(output)

    def pullback(
        self, x: np.ndarray, train: bool = False, masks: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Pullback]:
        """Compute the output and its pullback; see `Part.pullback`."""
        wanted, chosen = OF_INPUTS | OF_PARAMETERS, self.chosen(masks or {})
        (output,), pullback = self.layer.call([self._entering(x)], train, wanted, chosen)
        assert pullback is not None

        def pull_back(gradient: np.ndarray) -> tuple[np.ndarray, State]:
            gradient = _nhwc(gradient) if self.leaves_channels_last else gradient
            (of_input,), of_parameters = pullback([np.ascontiguousarray(gradient)])
            assert of_input is not None
            found = zip(self.layer.parameters, of_parameters, strict=True)
            gradients = {name: array for name, array in found if array is not None}
            return _nchw(of_input) if self.enters_channels_last else of_input, gradients

        return self._leaving(output), pull_back

    def activations(
        self, x: np.ndarray, train: bool, masks: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, State]:
        """Return output and activations; see `Part.activations`."""
        inputs, chosen = [self._entering(x)], self.chosen(masks)
        result = self._calls(
            "part_activations", [self._shared.handle], inputs=inputs, named=chosen, flag=train
        )
        activations = dict(result.arrays)
        output = self._leaving(activations.pop("output"))
        return output, activations

    def _entering(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(_nhwc(x) if self.enters_channels_last else x)

    def _leaving(self, output: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(_nchw(output)) if self.leaves_channels_last else output


def _nhwc(maps: np.ndarray) -> np.ndarray:
    return maps.transpose(0, 2, 3, 1)


def _nchw(maps: np.ndarray) -> np.ndarray:
    return maps.transpose(0, 3, 1, 2)
