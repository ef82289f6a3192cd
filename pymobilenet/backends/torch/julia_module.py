"""A layer of Flux as an `nn.Module`, with parameters that are Julia's memory."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pymobilenet.backends.julia.calls import DTYPES, MAX_AXES
from pymobilenet.backends.julia.layer import OF_INPUTS, OF_PARAMETERS, JuliaLayer
from pymobilenet.errors import ConfigError, DataError

LOW_PRECISION = (torch.bfloat16, torch.float16)
"""What autocast gives a layer, which then converts it to its own dtype."""


_TORCH_DTYPES: dict[np.dtype | None, torch.dtype] = {
    np.dtype("float32"): torch.float32,
    np.dtype("float64"): torch.float64,
}


class _Options(NamedTuple):
    """The arguments of a call that are no tensors."""

    layer: JuliaLayer
    train: bool
    inputs: int
    is_recorded: bool
    masks: Mapping[str, np.ndarray] | None


class _Token(np.ndarray):
    """An array without elements that keeps a pullback alive, as long as torch saves it."""

    pullback: Any


class _Call(torch.autograd.Function):
    """One call of a Julia layer: inputs, then parameters, are its tensors."""

    @staticmethod
    def forward(ctx: Any, options: _Options, *tensors: Tensor) -> Any:
        wants = ctx.needs_input_grad[1:] if options.is_recorded else ()
        wanted = OF_INPUTS * any(wants[: options.inputs])
        wanted |= OF_PARAMETERS * any(wants[options.inputs :])
        arrays = [tensor.detach().numpy() for tensor in tensors[: options.inputs]]
        outputs, pullback = options.layer.call(arrays, options.train, wanted, options.masks)
        results = tuple(map(torch.from_numpy, outputs))
        if pullback is not None:
            token = np.empty(0).view(_Token)
            token.pullback = pullback
            ctx.pullback = weakref.ref(pullback)
            ctx.parameters = tensors[options.inputs :]
            ctx.versions = [parameter._version for parameter in ctx.parameters]
            # Saved, so that a change in place is an error, and released when torch releases them.
            ctx.save_for_backward(torch.from_numpy(token), *tensors[: options.inputs], *results)
        ctx.mark_non_differentiable(*(each for each in results if not each.is_floating_point()))
        return results if len(results) > 1 else results[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a Julia layer has no second derivative: its pullback is not recorded by torch. "
                "Call backward or torch.autograd.grad without create_graph=True"
            )
        _ = ctx.saved_tensors  # raises if they were released, or changed in place
        if [parameter._version for parameter in ctx.parameters] != ctx.versions:
            raise RuntimeError(
                "a parameter of a Julia layer has been modified by an inplace operation since the "
                "call whose gradient is computed: call backward before the optimizer's step"
            )
        arrays = [gradient.contiguous().numpy() for gradient in gradients]
        of_inputs, of_parameters = ctx.pullback()(arrays)
        found = (*of_inputs, *of_parameters)
        needs = ctx.needs_input_grad[1:]
        return None, *(
            torch.from_numpy(array) if needed and array is not None else None
            for array, needed in zip(found, needs, strict=True)
        )


class JuliaModule(nn.Module):
    """A layer of Flux, or a model of such layers, as a module of torch.

    Its parameters and buffers are Julia's arrays, not copies: what an optimizer of either framework
    changes, the other sees. Their axes, as those of inputs and outputs, are Julia's in reverse: an
    image batch (N, C, H, W) is (W, H, C, N) in Julia, the weight (out, in) of a ``Dense`` is
    (in, out) in torch. Their names are paths in the layer, such as ``layers.1.weight``, in Julia's
    counting.

    Gradients are computed by Zygote, or the rules that the layer defines for it. Calls of several
    threads wait for each other. Under autocast the layer computes in its own dtype, to which
    inputs in half precision are converted. There is no second derivative.

    Args:
        layer: A Julia object of juliacall; or ``file.jl:function``, a function without arguments
            that returns a layer. The file is run, so use only files that you trust. Every array of
            the layer must be an ``Array`` of ``Float32`` or ``Float64``.

    Raises:
        ConfigError: There is no such file, or `layer` is something else.
        JuliaError: The file or the function throws, or an array cannot be shared.
        BackendUnavailable: Julia is not available.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._share(layer if isinstance(layer, JuliaLayer) else JuliaLayer.of(layer))
        self.masks: Mapping[str, np.ndarray] | None = None

    def _share(self, layer: JuliaLayer) -> None:
        """Register the layer's arrays, in modules that are named as its path."""
        self._layer = layer
        self._places: dict[str, tuple[nn.Module, str]] = {}
        for name, array in layer.arrays.items():
            *path, last = name.split(".")
            holder: nn.Module = self
            for part in path:
                holder = _submodule(holder, part)
            tensor = torch.from_numpy(array)
            key = _free_name(holder, last)
            if name in layer.parameters:
                holder.register_parameter(key, nn.Parameter(tensor))
            else:
                holder.register_buffer(key, tensor)
            self._places[name] = holder, key

    @property
    def layer(self) -> Any:
        """The layer, a Julia object of juliacall, for use in Julia."""
        return self._layer.object

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Call the layer.

        Args:
            inputs: Of the layer's dtype, or integers (int64 or uint8), on the CPU, in any memory
                format, with at most eight axes; the layer sees their axes reversed.

        Returns:
            What the layer returns: a tensor, or a tuple of tensors.

        Raises:
            DataError: An input is on another device, or of another dtype.
            JuliaError: The layer throws.
            RuntimeError: A parameter is not Julia's memory any more.
        """
        parameters = [self._checked(name) for name in self._layer.parameters]
        tensors = [self._input(tensor) for tensor in inputs]
        options = _Options(
            self._layer,
            self.training,
            len(tensors),
            torch.is_grad_enabled(),
            self.masks,
        )
        return _Call.apply(options, *tensors, *parameters)

    def _checked(self, name: str) -> Tensor:
        """Return a parameter, which must be Julia's memory."""
        holder, key = self._places[name]
        tensor = holder._parameters.get(key)
        if tensor is None or (tensor.data_ptr() != self._layer.addresses[name] and tensor.numel()):
            raise RuntimeError(
                f"{name} has been replaced by another tensor, which Julia does not see: assign "
                "values with copy_(), inside torch.no_grad()"
            )
        return tensor

    def _input(self, tensor: Tensor) -> Tensor:
        dtype = self._layer.dtype
        if not isinstance(tensor, Tensor) or not tensor.is_cpu or tensor.ndim > MAX_AXES:
            received = (
                f"{tensor.ndim} axes on {tensor.device}"
                if isinstance(tensor, Tensor)
                else type(tensor).__name__
            )
            raise DataError(
                f"an input of a Julia layer must be a tensor on the CPU with at most {MAX_AXES} "
                f"axes. Received: {received}"
            )
        if tensor.dtype is _TORCH_DTYPES.get(dtype):
            return tensor.contiguous()
        if dtype is not None and tensor.dtype in LOW_PRECISION and torch.is_autocast_enabled("cpu"):
            tensor = tensor.to(_TORCH_DTYPES[dtype])
        name = str(tensor.dtype).removeprefix("torch.")
        is_other = tensor.is_floating_point() and dtype is not None and name != dtype.name
        if is_other or name not in [each.name for each in DTYPES]:
            own = "float32, float64" if dtype is None else dtype.name
            raise DataError(
                f"an input of this Julia layer must be {own}, int64 or uint8: convert it with "
                f"tensor.to(). Received: {name}"
            )
        return tensor.contiguous()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> JuliaModule:  # noqa: ARG002
        """Convert the dtype, for `double`, `float` and `to`; nothing else can be changed."""
        dtype = self._layer.dtype
        probe = fn(torch.empty(0, dtype=_TORCH_DTYPES.get(dtype)))
        name = str(probe.dtype).removeprefix("torch.")
        if probe.device.type != "cpu" or probe.is_shared() or name not in ("float32", "float64"):
            place = "shared memory" if probe.is_shared() else str(probe.device)
            raise RuntimeError(
                "a Julia layer computes in float32 or float64, on the CPU, in memory of this "
                f"process. Received: {name} on {place}"
            )
        if dtype is not None and name != dtype.name:
            self._convert(np.dtype(name))
        return self

    def _convert(self, dtype: np.dtype) -> None:
        self._layer = self._layer.converted(dtype)
        for name, (holder, key) in self._places.items():
            tensor = torch.from_numpy(self._layer.arrays[name])
            parameter = holder._parameters.get(key)
            if parameter is None:
                holder._buffers[key] = tensor
                continue
            gradient = parameter.grad
            parameter.grad = None
            parameter.data = tensor
            parameter.grad = None if gradient is None else gradient.to(tensor.dtype)

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """Return the state; see `nn.Module.state_dict`. Its tensors are Julia's memory."""
        self._layer.restore_arrays()
        return super().state_dict(*args, **options)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any
    ) -> None:
        if local_metadata.get("assign_to_params_buffers", False):
            raise RuntimeError(
                "load_state_dict(assign=True) would replace Julia's memory: load without assign"
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def __deepcopy__(self, memo: dict[int, Any]) -> JuliaModule:
        """Return a copy with a layer of its own."""
        new = self.__class__.__new__(self.__class__)
        memo[id(self)] = new
        layer = memo[id(self._layer)] = self._layer.copied()
        for name, (holder, key) in self._places.items():
            old, tensor = getattr(holder, key), torch.from_numpy(layer.arrays[name])
            if isinstance(old, nn.Parameter):
                parameter = nn.Parameter(tensor, requires_grad=old.requires_grad)
                parameter.grad = None if old.grad is None else old.grad.clone()
                tensor = parameter
            memo[id(old)] = tensor
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the file and function, and the tensors."""
        if not self._layer.spec:
            raise TypeError(
                "a JuliaModule can be pickled only if it was made from file.jl:function: save its "
                "state_dict() instead. Received: a layer that was made from a Julia object"
            )
        dtype = self._layer.dtype
        return self.__dict__ | {
            "_layer": (self._layer.spec, "float32" if dtype is None else dtype.name)
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        spec, dtype = state["_layer"]
        layer = JuliaLayer.of(spec)
        if layer.dtype is not None and layer.dtype.name != dtype:
            layer = layer.converted(np.dtype(dtype))
        self.__dict__.update(state)
        self._layer = layer
        if layer.arrays.keys() != self._places.keys():
            raise ConfigError(
                f"the arrays of a layer must have the names that were pickled. Received: {spec}, "
                f"with {', '.join(sorted(layer.arrays.keys() ^ self._places.keys()))} in one only"
            )
        for name, (holder, key) in self._places.items():
            tensor = torch.from_numpy(layer.arrays[name])
            with torch.no_grad():
                tensor.copy_(getattr(holder, key))
            if key in holder._parameters:
                getattr(holder, key).data = tensor
            else:
                holder._buffers[key] = tensor

    def extra_repr(self) -> str:
        """Return the layer's origin and the number of its parameters."""
        origin = self._layer.spec or "a Julia object"
        return f"{origin}, {len(self._layer.parameters)} parameters"

    @contextmanager
    def masked(self, masks: Mapping[str, np.ndarray]) -> Iterator[None]:
        """Use masks in a part of a MobileNet; see `PartModule.masked`.

        Args:
            masks: Those of this part.
        """
        self.masks = masks
        try:
            yield
        finally:
            self.masks = None


def _submodule(holder: nn.Module, name: str) -> nn.Module:
    """Return the module of a part of a path; a new one where there is none."""
    known = holder._modules.get(name) or holder._modules.get(f"{name}_")
    if known is None:
        known = nn.Module()
        holder.add_module(_free_name(holder, name), known)
    return known


def _free_name(holder: nn.Module, name: str) -> str:
    """Return a name that is no attribute of modules; one that is, such as forward, gets a _."""
    return f"{name}_" if hasattr(holder, name) else name
