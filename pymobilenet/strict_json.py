"""JSON objects out of files that nobody vouches for.

`json` lets a name appear twice, and takes NaN and halves of surrogate pairs. None of it is JSON
that another language's reader would understand in the same way, and so it is refused.
"""

from __future__ import annotations

import json
from typing import Any

MOST_SHOWN = 80
"""Characters of a value in a message."""


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object that `text` is.

    Raises:
        ValueError: The rule it breaks.

    >>> parse_object('{"a":1,"a":2}')
    Traceback (most recent call last):
    ValueError: the name "a" appears twice
    """
    try:
        decoded = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    try:
        value = json.loads(decoded, object_pairs_hook=_object, parse_constant=_no_constant)
    except _NameRefusedError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}). Received: {shown(decoded)}") from None
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object. Received: {shown(value)}")
    return value


def check_texts(values: Any, name: str) -> dict[str, str]:
    """`values`, if it is an object of strings; `name` is what the file calls it.

    Raises:
        ValueError: It is not.
    """
    texts = isinstance(values, dict) and all(isinstance(text, str) for text in values.values())
    if not texts:
        raise ValueError(f"{name} must be an object of strings. Received: {shown(values)}")
    return dict(values)


def shown(value: Any) -> str:
    """A value as JSON, for a message; a long one is cut."""
    cut = value[:MOST_SHOWN] if isinstance(value, str) else value
    return json.dumps(cut, separators=(",", ":"))[:MOST_SHOWN]


class _NameRefusedError(ValueError):
    """Beside the errors of `json`, which are `ValueError` too."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _NameRefusedError(f"the name {shown(name)} appears twice")
        if not all(_is_whole(text) for text in (name, value) if isinstance(text, str)):
            raise _NameRefusedError(f"half a surrogate pair in or at the name {shown(name)}")
        found[name] = value
    return found


def _is_whole(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
