"""The file of a model from the user's argument: a path, or the name of pretrained weights."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from pymobilenet.errors import ConfigError
from pymobilenet.hub.download import fetch
from pymobilenet.hub.registry import PretrainedModel, pretrained_models


def resolve_model_file(
    path_or_name: str | Path, notify: Callable[[str], object] = lambda _message: None
) -> tuple[Path, PretrainedModel | None]:
    """Return the file that a path or the name of pretrained weights stands for.

    An existing file takes precedence over a name. A `Path` is never taken for a name, except one
    without folders.

    Args:
        path_or_name: A path, or a name of `pretrained_models`.
        notify: As in `fetch`.

    Returns:
        The file, and the registry's entry if a name was given.

    Raises:
        DataError: The weights of that name cannot be downloaded; see `fetch`.
    """
    path = Path(path_or_name)
    model = pretrained_models().get(str(path_or_name))
    if model is None or path.exists():
        return path, None
    return fetch(model, notify), model


def find_pretrained(name: str) -> PretrainedModel:
    """Return the registry's entry of that name.

    Args:
        name: A name that `pymobilenet pretrained` lists.

    Raises:
        ConfigError: There is none; the message states the names that resemble it.
    """
    models = pretrained_models()
    if name not in models:
        near = difflib.get_close_matches(name, models, n=3, cutoff=0.4)
        hint = f"Similar names: {', '.join(near)}. " if near else ""
        raise ConfigError(
            f"pretrained weights must be named as `pymobilenet pretrained` lists them. {hint}"
            f"Received: {name!r}"
        )
    return models[name]
