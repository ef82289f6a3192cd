"""`Record`, the base class of the configurations: conversion to and from text, field checks."""

from __future__ import annotations

import dataclasses
import json
import numbers
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pymobilenet.errors import ConfigError
from pymobilenet.files import read_text_file
from pymobilenet.strict_json import parse_object


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file, UTF-8.

    Returns:
        The document as nested dictionaries.

    Raises:
        ConfigError: The file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(read_text_file(path))
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None


class Record:
    """Base class of the configurations. Subclasses are frozen dataclasses."""

    _former_names: ClassVar[Mapping[str, str]] = {}
    """Field names in files of earlier versions -> present names."""

    _table: ClassVar[str] = ""
    """The name of the TOML table."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def to_json(self) -> str:
        """Return JSON with sorted keys and no spaces: equal configurations give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a configuration; missing fields take their defaults.

        Args:
            values: Fields by name.

        Returns:
            The configuration.

        Raises:
            ConfigError: An unknown name or an invalid value.
        """
        values = {cls._former_names.get(name, name): value for name, value in values.items()}
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - names)
        if unknown:
            raise ConfigError(
                f"{cls.__name__} has no field {unknown[0]!r}; its fields are "
                f"{', '.join(sorted(names))}"
            )
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the JSON object that `to_json` writes.

        Args:
            text: JSON.

        Returns:
            The configuration.

        Raises:
            ConfigError: Not a JSON object, an unknown name or an invalid value.
        """
        try:
            return cls.from_dict(parse_object(text))
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from None

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read this class's table of a TOML file: ``[model]``, ``[train]`` or ``[run]``.

        Args:
            path: The file, UTF-8.

        Returns:
            The configuration.

        Raises:
            ConfigError: The file cannot be read, has no such table, or the table is invalid.
        """
        document = read_toml(path)
        if not isinstance(document.get(cls._table), dict):
            raise ConfigError(f"{path}: no table [{cls._table}]; it has {sorted(document)}")
        try:
            return cls.from_dict(document[cls._table])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def to_toml(self) -> str:
        """Return the TOML table that `from_toml` reads.

        Raises:
            ConfigError: A text that is not valid Unicode, which TOML cannot represent.
        """
        values = {name: value for name, value in self.to_dict().items() if value is not None}
        lines = [f"{name} = {_toml_value(name, value)}" for name, value in values.items()]
        return f"[{self._table}]\n" + "\n".join(lines) + "\n"

    def _set_number(self, name: str, kind: type, low: float, high: float, rule: str) -> None:
        """Convert field `name` to `kind` (int or float), or raise with the rule it broke."""
        value = getattr(self, name)
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise ConfigError(f"{name} must be {rule}. Received: {value!r}")
        if kind is int and value != int(value):
            raise ConfigError(f"{name} must be a whole number, {rule}. Received: {value!r}")
        object.__setattr__(self, name, kind(value) + 0)  # + 0 turns -0.0 into 0.0

    def _set_increasing(self, name: str, high: int) -> None:
        """Convert a list of increasing positive integers to a tuple, since JSON has only lists."""
        value = getattr(self, name)
        items: list[Any] = list(value) if isinstance(value, (list, tuple)) else [None]
        are_integers = all(
            isinstance(item, numbers.Integral)
            and not isinstance(item, bool)
            and 1 <= int(item) <= high
            for item in items
        )
        if not are_integers or items != sorted(set(items)):
            raise ConfigError(
                f"{name} must be increasing whole numbers, at least 1. Received: {value!r}"
            )
        object.__setattr__(self, name, tuple(int(item) for item in items))

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ConfigError(
                f"{name} must be one of {', '.join(choices)}. Received: {getattr(self, name)!r}"
            )

    def _check_flag(self, name: str) -> None:
        if not isinstance(getattr(self, name), bool):
            raise ConfigError(f"{name} must be true or false. Received: {getattr(self, name)!r}")


def _toml_value(name: str, value: Any) -> str:
    """Return a value as TOML text.

    JSON's numbers, booleans, lists and strings are valid TOML, except that TOML has no surrogate
    pairs and that DEL must be escaped.
    """
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{name} must be valid Unicode to be written as TOML. Received: {value!r}"
        ) from None
    return text
