"""Record what each layer of a torch module computes, and functions outside of layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pymobilenet.backends.torch.recorder import Recorder, Run, as_arrays
from pymobilenet.backends.torch.traced_modules import describe_module
from pymobilenet.backends.trace import Layer, Participant, Trace, TrainingStep
from pymobilenet.errors import ConfigError
from pymobilenet.files import atomic_write
from pymobilenet.weights.perturb import move_ulps

STATISTICS = ("running_mean", "running_var")


class TorchParticipant(Participant):
    """A ``torch.nn.Module``.

    The module is copied; its own weights, mode and hooks stay as they are.

    Args:
        module: Takes one tensor with the batch as first axis and returns one tensor.
        name: How reports call it.
    """

    framework = "torch"
    dtypes = ("float64", "float32")
    moves_weights = True
    has_gradients = True

    def __init__(self, module: nn.Module, name: str = "torch") -> None:
        self.name = name
        self._module = module
        self._runs: dict[str, Run] = {}

    def trace(self, inputs: np.ndarray, dtype: str, draw: int | None = None) -> Trace:
        """Run a copy of the module in evaluation mode; see `Participant.trace`.

        Raises:
            ConfigError: The module returns something else than one tensor.
        """
        module = self._copy(dtype, draw).eval()
        recorder = Recorder(module)
        with torch.no_grad(), recorder:
            output = module(torch.from_numpy(np.array(inputs, dtype, order="C")))
        self._check_output(output)
        if draw is None:
            self._runs = recorder.runs
        return Trace(tuple(recorder.layers), output.numpy())

    def run_layer(self, layer: Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Run one layer on other inputs; see `Participant.run_layer`."""
        with torch.no_grad():
            tensors = [torch.from_numpy(np.array(array, order="C")) for array in inputs]
            return self._runs[layer.name](tensors).numpy()

    def train_step(
        self, inputs: np.ndarray, labels: np.ndarray, dtype: str, draw: int | None = None
    ) -> TrainingStep:
        """Run a copy of the module in training mode; see `Participant.train_step`.

        Raises:
            ConfigError: The module returns something else than one tensor, or the loss is no number
                that depends on its output.
        """
        module = self._copy(dtype, draw).train()
        recorder = Recorder(module, drops_values=False)
        with recorder:
            output = module(torch.from_numpy(np.array(inputs, dtype, order="C")))
        self._check_output(output)
        outputs = output if output.requires_grad else output.requires_grad_()
        loss = (self.loss or functional.cross_entropy)(outputs, torch.from_numpy(labels))
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise ConfigError(
                f"{self.name}: the loss must be one number that depends on the output. Received: "
                f"{loss!r:.80}"
            )
        leaves = [
            (name, key, tensor)
            for name, tensors in recorder.tensors.items()
            for key, tensor in tensors.items()
            if tensor.is_leaf and key not in STATISTICS
        ]
        wanted = [tensor for _, _, tensor in leaves if tensor.requires_grad]
        found = torch.autograd.grad(loss.reshape(()), [outputs, *wanted], allow_unused=True)
        by_tensor = dict(zip(map(id, wanted), found[1:], strict=True))
        gradients: dict[str, dict[str, np.ndarray]] = {}
        for name, key, tensor in leaves:
            value = by_tensor.get(id(tensor))
            array = torch.zeros_like(tensor) if value is None else value
            gradients.setdefault(name, {})[key] = array.detach().numpy()
        trace = Trace(tuple(recorder.layers), output.detach().numpy())
        statistics = _statistics(module, recorder)
        return TrainingStep(trace, loss.item(), found[0].numpy(), gradients, statistics)

    def _copy(self, dtype: str, draw: int | None) -> nn.Module:
        module = copy.deepcopy(self._module).to("cpu", getattr(torch, dtype))
        if draw is not None:
            _move_by_one_ulp(module, draw)
        return module

    def _check_output(self, output: object) -> None:
        if not isinstance(output, torch.Tensor):
            raise ConfigError(
                f"{self.name}: the module must return one tensor. Received: {type(output).__name__}"
            )

    def load_params(self, layer: Layer, params: Mapping[str, np.ndarray]) -> None:
        """Copy parameters into a layer of the module; see `Participant.load_params`."""
        target = self._module.get_submodule(layer.name.partition("#")[0])
        with torch.no_grad():
            for name, array in params.items():
                getattr(target, name).copy_(torch.from_numpy(array))

    def save_weights(self, path: Path) -> str:
        """Write the state dict with `torch.save`; see `Participant.save_weights`."""
        with atomic_write(path) as file:
            torch.save(self._module.state_dict(), file)
        return f'module.load_state_dict(torch.load("{path}", weights_only=True))'

    def versions(self) -> dict[str, str]:
        """Return torch's version."""
        return {"torch": torch.__version__}


def _move_by_one_ulp(module: nn.Module, draw: int) -> None:
    """Move every value of every parameter up or down by one unit in the last place."""
    for index, parameter in enumerate(module.parameters()):
        parameter.data = torch.from_numpy(move_ulps(parameter.detach().numpy(), draw, index))


def _statistics(module: nn.Module, recorder: Recorder) -> dict[str, dict[str, np.ndarray]]:
    """Return the running statistics of all norms, as they are now."""
    modules = dict(module.named_modules())
    statistics = {}
    for name, tensors in recorder.tensors.items():
        owner = modules.get(name.partition("#")[0])
        described = None if owner is None else describe_module(owner)
        now = tensors if described is None else described[1]
        arrays = as_arrays({key: now.get(key) for key in STATISTICS})
        if arrays:
            statistics[name] = arrays
    return statistics
