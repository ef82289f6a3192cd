"""Strict parsing of JSON objects from untrusted files.

Python's `json` accepts duplicate names, NaN and halves of surrogate pairs. Readers of other
languages treat these differently, so they are refused.
"""

from __future__ import annotations

import json
from typing import Any

TRUNCATE_AT = 80
"""Characters of a value in an error message."""


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: JSON; bytes are UTF-8.

    Returns:
        The object as a dictionary.

    Raises:
        ValueError: Not UTF-8, not JSON, not an object, a duplicate name, NaN or infinity, or half
            a surrogate pair.

    Examples:
        >>> parse_object('{"a":1}')
        {'a': 1}
        >>> parse_object("[1]")
        Traceback (most recent call last):
        ValueError: not a JSON object. Received: [1]
    """
    try:
        decoded = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    try:
        value = json.loads(decoded, object_pairs_hook=_object, parse_constant=_no_constant)
    except _InvalidNameError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}). Received: {excerpt(decoded)}") from None
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object. Received: {excerpt(value)}")
    return value


def check_texts(values: Any, name: str) -> dict[str, str]:
    """Return an object of strings.

    Args:
        values: The parsed value.
        name: Its name, for the error message.

    Returns:
        A copy.

    Raises:
        ValueError: Not an object, or a value that is not a string.
    """
    are_texts = isinstance(values, dict) and all(isinstance(text, str) for text in values.values())
    if not are_texts:
        raise ValueError(f"{name} must be an object of strings. Received: {excerpt(values)}")
    return dict(values)


def excerpt(value: Any) -> str:
    """Return a value as JSON for an error message, truncated.

    Args:
        value: Any JSON value.
    """
    truncated = value[:TRUNCATE_AT] if isinstance(value, str) else value
    return json.dumps(truncated, separators=(",", ":"))[:TRUNCATE_AT]


class _InvalidNameError(ValueError):
    """Distinguishes errors of `_object` from those of `json`, which are also `ValueError`."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise _InvalidNameError(f"the name {excerpt(name)} appears twice")
        if not all(_is_valid_unicode(text) for text in (name, value) if isinstance(text, str)):
            raise _InvalidNameError(f"half a surrogate pair in or at the name {excerpt(name)}")
        values[name] = value
    return values


def _is_valid_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
