"""State dicts in what a checkpoint holds, and what lies beside them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymobilenet.errors import WeightsError

OTHERS = ("optimizer", "optimizers", "optimizer_states", "optimizer_state_dict", "optim", "opt")
"""Keys whose tensors are moments and not weights."""

FEWEST = 8
"""Tensors of a state dict that counts as one, if another is larger: a norm has four."""

AVERAGED = "ema"
"""What is in the names of averaged weights: state_dict_ema (timm), model_ema (torchvision)."""


@dataclass(frozen=True)
class StateDict:
    """One state dict of a checkpoint.

    Attributes:
        path: The keys that lead to it, with dots between; empty for the whole file.
        tensors: Its tensors by name, as torch reads them.
        note: What else there was, where a choice was made.
    """

    path: str
    tensors: Mapping[str, Any]
    note: str = ""


def choose_state_dict(content: Any, which: str | None, source: str) -> StateDict:
    """The one state dict in `content`, or the one whose keys contain `which`.

    Where there are two and one of them holds averages, the other is taken, and the note says so.

    Raises:
        WeightsError: None, or more than one.
    """
    known = [one for one in _state_dicts(content, ()) if one.tensors]
    large = [one for one in known if len(one.tensors) >= FEWEST] or known
    if not large:
        raise WeightsError(
            f"{source}: must hold a state dict, or a dict with one. "
            f"Received: {type(content).__name__}{_keys(content)}"
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
                f"the weights are those under {plain[0].path!r}; averaged ones are under "
                f"{', '.join(others)}: --which ema takes those"
            )
        return StateDict(plain[0].path, plain[0].tensors, note)
    raise WeightsError(
        f"{source}: holds more than one state dict, "
        f"{', '.join(one.path for one in convolutional)}: say which with --which NAME"
    )


def trainer_arguments(content: Any) -> dict[str, Any]:
    """The arguments that a trainer saved beside the weights: ``args``, ``hyper_parameters``."""
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
    tensors = {n: v for n, v in content.items() if isinstance(n, str) and _is_tensor(v)}
    if tensors and (path or len(tensors) > 1 or len(content) == 1):
        yield StateDict(".".join(path), tensors)
    for key, value in content.items():
        yield from _state_dicts(value, (*path, str(key)))


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach")


def _has_convolution(one: StateDict) -> bool:
    return any(tensor.ndim == 4 for tensor in one.tensors.values())


def _are_parts(state_dicts: list[StateDict]) -> bool:
    """Whether these are a trunk and its head, saved apart."""
    return sum(_has_convolution(one) for one in state_dicts) == 1 and all(
        _has_convolution(one) or len(one.tensors) < FEWEST for one in state_dicts
    )


def _keys(content: Any) -> str:
    if not isinstance(content, Mapping):
        return ""
    return f" with {[str(key) for key in content][:8]}"
