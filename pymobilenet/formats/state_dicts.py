"""The state dict and the trainer's arguments in a checkpoint of torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymobilenet.errors import WeightsError
from pymobilenet.formats.torch_globals import Unread

OTHERS = ("optimizer", "optimizers", "optimizer_states", "optimizer_state_dict", "optim", "opt")
"""Keys whose tensors are optimizer slots, not weights."""

FEWEST = 8
"""The fewest tensors of a state dict, if another one is larger: a norm has four."""

AVERAGED = "ema"
"""A part of the keys of averaged weights: state_dict_ema (timm), model_ema (torchvision)."""


@dataclass(frozen=True)
class StateDict:
    """One state dict of a checkpoint.

    Attributes:
        path: The keys that lead to it, joined by dots; "" if it is the content of the file.
        tensors: Name -> `torch.Tensor`.
        note: A note for the report about other state dicts; "" if there are none.
    """

    path: str
    tensors: Mapping[str, Any]
    note: str = ""


def choose_state_dict(content: Any, which: str | None, source: str) -> StateDict:
    """Choose the state dict of a model in a checkpoint.

    If there are weights and averaged weights, the former are chosen, and the note states it.

    Args:
        content: The content of the file, as `torch_file.load_object` returns it.
        which: A key on the path of the state dict, or a part of the path; None if there is one.
        source: The file, for messages.

    Returns:
        The state dict.

    Raises:
        WeightsError: There is no state dict, or more than one.
    """
    known = [one for one in _state_dicts(content, ()) if one.tensors]
    large = [one for one in known if len(one.tensors) >= FEWEST] or known
    if not large:
        raise WeightsError(
            f"{source}: must hold a state dict, or a dict with one. "
            f"Received: {type(content).__name__}{_describe(content)}"
        )
    if which is not None:
        chosen = [one for one in large if which in one.path.split(".")]
        chosen = chosen or [one for one in large if which in one.path]
        if len(chosen) == 1:
            return chosen[0]
        if len(large) > 1:
            raise WeightsError(
                f"{source}: --which must name one of its state dicts, "
                f"{', '.join(one.path for one in large)}. Received: {which!r}"
            )
    if len(large) == 1:
        return large[0]
    if not any(_has_convolution(one) for one in large) or _are_parts(large):
        merged = {f"{one.path}.{name}": t for one in large for name, t in one.tensors.items()}
        return StateDict("", merged)
    convolutional = [one for one in large if _has_convolution(one)]
    plain = [one for one in convolutional if AVERAGED not in one.path]
    if len(plain) == 1:
        others = [one.path for one in convolutional if one is not plain[0]]
        note = ""
        if others:
            note = (
                f"the weights under {plain[0].path!r} are used; averaged ones are under "
                f"{', '.join(others)}: --which ema selects them"
            )
        return StateDict(plain[0].path, plain[0].tensors, note)
    raise WeightsError(
        f"{source}: has more than one state dict, "
        f"{', '.join(one.path for one in convolutional)}: select one with --which NAME"
    )


def trainer_arguments(content: Any) -> dict[str, Any]:
    """Return the arguments that a trainer saved with the weights, in ``args`` and similar keys.

    Args:
        content: The content of the file, as `torch_file.load_object` returns it.
    """
    if not isinstance(content, Mapping):
        return {}
    for key in ("args", "hyper_parameters", "config", "opt"):
        value = content.get(key)
        if isinstance(value, argparse.Namespace):
            return dict(vars(value))
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            return dict(value)
    return {}


def _state_dicts(content: Any, path: tuple[str, ...]) -> Iterator[StateDict]:
    if not isinstance(content, Mapping) or (path and path[-1] in OTHERS):
        return
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and _is_tensor(value)
    }
    if tensors and (path or len(tensors) > 1 or len(content) == 1):
        yield StateDict(".".join(path), tensors)
    for key, value in content.items():
        yield from _state_dicts(value, (*path, str(key)))


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach")


def _has_convolution(one: StateDict) -> bool:
    return any(tensor.ndim == 4 for tensor in one.tensors.values())


def _are_parts(state_dicts: list[StateDict]) -> bool:
    """Return whether these are a trunk and its head, saved as two state dicts."""
    return sum(_has_convolution(one) for one in state_dicts) == 1 and all(
        _has_convolution(one) or len(one.tensors) < FEWEST for one in state_dicts
    )


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return ""
    hint = ""
    if any(isinstance(value, Unread) for value in content.values()):
        hint = ", and its values are not tensors: NumPy arrays and objects are not supported"
    return f" with {[str(key) for key in content][:8]}{hint}"
