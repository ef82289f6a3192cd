"""The state of a model: arrays by canonical name, and its validation.

A state contains every parameter and running statistic of the config. With an optimizer it also
contains the moments as ``optimizer.<slot>.<parameter>`` and the number of steps taken as
``optimizer.step`` (an int64 scalar).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pymobilenet.architecture import parameter_shapes, statistic_shapes
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError, WeightsError

State = dict[str, np.ndarray]
"""Arrays by canonical name."""

OPTIMIZER_STEP = "optimizer.step"


def state_shapes(config: MobileNetConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameters and running statistics.

    Args:
        config: The architecture.

    Returns:
        Canonical name -> shape.
    """
    return {**parameter_shapes(config), **statistic_shapes(config)}


def optimizer_shapes(config: MobileNetConfig, slots: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that an optimizer adds to the state.

    Args:
        config: The architecture.
        slots: The optimizer's slots, see `TrainConfig.slots`.

    Returns:
        Name -> shape; empty without slots.
    """
    if not slots:
        return {}
    moments = {
        f"optimizer.{slot}.{name}": shape
        for slot in slots
        for name, shape in parameter_shapes(config).items()
    }
    return {**moments, OPTIMIZER_STEP: ()}


def slots_of(tensors: Mapping[str, object]) -> tuple[str, ...]:
    """Return the optimizer slots in a state, sorted.

    Args:
        tensors: A state; only its names are used.
    """
    keys = [name.split(".") for name in tensors if name.startswith("optimizer.")]
    return tuple(sorted({key[1] for key in keys if len(key) > 2}))


def averaged(state: Mapping[str, np.ndarray]) -> State:
    """Return a state with the moving averages of the parameters in place of the parameters.

    Running statistics are those of the model. Optimizer slots are left out.

    Args:
        state: A state with the slot ``ema``.

    Returns:
        Parameters and running statistics; the arrays are not copied.

    Raises:
        ConfigError: The state contains no averages.
    """
    slots = slots_of(state)
    if "ema" not in slots:
        raise ConfigError(
            f"the state contains no averages: train with ema_decay. Received: slots {slots}"
        )
    names = (name for name in state if not name.startswith("optimizer."))
    return {name: state.get(f"optimizer.ema.{name}", state[name]) for name in names}


def check_state(
    config: MobileNetConfig,
    tensors: Mapping[str, np.ndarray],
    dtype: np.dtype | str,
    slots: Sequence[str] = (),
    source: str = "state",
) -> None:
    """Check that a state has exactly the tensors of a config and of the optimizer slots.

    Args:
        config: The architecture.
        tensors: The state.
        dtype: The dtype of all tensors except ``optimizer.step``, which is int64.
        slots: The optimizer slots that the state must contain.
        source: Name of the file, for error messages.

    Raises:
        WeightsError: Tensors are missing or unknown; or a tensor has a wrong shape or dtype, is
            not finite, or is a negative variance; or a layer of the config has no channels.
    """
    try:
        shapes = {**state_shapes(config), **optimizer_shapes(config, slots)}
    except ConfigError as error:  # width_mult leaves a layer without channels
        raise WeightsError(f"{source}: {error}") from None
    missing = [name for name in shapes if name not in tensors]
    extra = sorted(set(tensors) - set(shapes))
    if missing or extra:
        raise WeightsError(
            f"{source}: tensor names differ from those of {config.to_json()}: "
            f"missing {truncate(missing)}, left over {truncate(extra)}"
        )
    for name, shape in shapes.items():
        tensor = np.asarray(tensors[name])
        expected = np.dtype(np.int64) if name == OPTIMIZER_STEP else np.dtype(dtype)
        if tensor.shape != shape:
            raise WeightsError(
                f"{source}: {name} must have shape {shape}. Received: {tensor.shape}"
            )
        if tensor.dtype != expected:
            raise WeightsError(f"{source}: {name} must be {expected}. Received: {tensor.dtype}")
        if not np.isfinite(tensor).all():
            index = tuple(int(axis) for axis in np.argwhere(~np.isfinite(tensor))[0])
            raise WeightsError(
                f"{source}: {name} must be finite. Received: {tensor[index]} at {list(index)}"
            )
        never_negative = name.endswith(".running_var") or name == OPTIMIZER_STEP
        if never_negative and tensor.min() < 0:
            raise WeightsError(f"{source}: {name} must not be negative. Received: {tensor.min()}")


def truncate(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names of a list, and the number of the others.

    Args:
        names: The names.
        most: Number of names to list.

    Examples:
        >>> truncate(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
