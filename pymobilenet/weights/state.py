"""A model's state: canonical names paired with arrays, checked before anything is copied.

A state holds every parameter and running statistic of the config, and, where an optimizer is at
work, its moments as ``optimizer.<slot>.<parameter>`` and the number of steps it has taken as
``optimizer.step`` (an int64 scalar).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pymobilenet.architecture import parameter_shapes, statistic_shapes
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError, WeightsError

State = dict[str, np.ndarray]

OPTIMIZER_STEP = "optimizer.step"


def state_shapes(config: MobileNetConfig) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of all parameters and running statistics."""
    return {**parameter_shapes(config), **statistic_shapes(config)}


def optimizer_shapes(config: MobileNetConfig, slots: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what an optimizer with these `slots` adds to the state."""
    if not slots:
        return {}
    moments = {
        f"optimizer.{slot}.{name}": shape
        for slot in slots
        for name, shape in parameter_shapes(config).items()
    }
    return {**moments, OPTIMIZER_STEP: ()}


def slots_of(tensors: Mapping[str, object]) -> tuple[str, ...]:
    """The optimizer slots named in a state, sorted."""
    names = [name.split(".") for name in tensors if name.startswith("optimizer.")]
    return tuple(sorted({parts[1] for parts in names if len(parts) > 2}))


def averaged(state: Mapping[str, np.ndarray]) -> State:
    """A state with the running averages of its parameters in their place, and without moments.

    Running statistics are the model's own.

    Raises:
        ConfigError: The state holds no averages.
    """
    slots = slots_of(state)
    if "ema" not in slots:
        raise ConfigError(
            f"the state holds no averages: train with ema_decay. Received: moments {slots}"
        )
    own = (name for name in state if not name.startswith("optimizer."))
    return {name: state.get(f"optimizer.ema.{name}", state[name]) for name in own}


def check_state(
    config: MobileNetConfig,
    tensors: Mapping[str, np.ndarray],
    dtype: np.dtype | str,
    slots: Sequence[str] = (),
    source: str = "state",
) -> None:
    """Refuse a state that is not exactly the one `config` and `slots` call for.

    Raises:
        WeightsError: Names each missing and each left-over tensor; failing that, the first tensor
            whose shape or dtype is wrong, that is not finite, or that is a variance below zero.
            Or the layer that `config` leaves without channels.
    """
    try:
        shapes = {**state_shapes(config), **optimizer_shapes(config, slots)}
    except ConfigError as error:  # a width that only the layer it leaves nothing of can tell
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
        wanted = np.dtype(np.int64) if name == OPTIMIZER_STEP else np.dtype(dtype)
        if tensor.shape != shape:
            raise WeightsError(
                f"{source}: {name} must have shape {shape}. Received: {tensor.shape}"
            )
        if tensor.dtype != wanted:
            raise WeightsError(f"{source}: {name} must be {wanted}. Received: {tensor.dtype}")
        if not np.isfinite(tensor).all():
            at = tuple(int(axis) for axis in np.argwhere(~np.isfinite(tensor))[0])
            raise WeightsError(
                f"{source}: {name} must be finite. Received: {tensor[at]} at {list(at)}"
            )
        never_negative = name.endswith(".running_var") or name == OPTIMIZER_STEP
        if never_negative and tensor.min() < 0:
            raise WeightsError(f"{source}: {name} must not be negative. Received: {tensor.min()}")


def truncate(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are.

    >>> truncate(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
