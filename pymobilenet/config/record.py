"""What the configurations share: conversions to and from text, and the checks of a field."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pymobilenet.errors import ConfigError
from pymobilenet.strict_json import parse_object


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: It cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None


class Record:
    """Conversions shared by the configurations; each field's annotation is its type."""

    _former_names: ClassVar[Mapping[str, str]] = {}
    """Names of fields in files written by earlier versions -> their present names."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def to_json(self) -> str:
        """JSON with sorted keys and no spaces: equal configurations give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from a mapping; unknown names are refused, absent ones take their default."""
        values = {cls._former_names.get(name, name): value for name, value in values.items()}
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                f"{cls.__name__} has no field {unknown[0]!r}; its fields are "
                f"{', '.join(sorted(known))}"
            )
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        try:
            return cls.from_dict(parse_object(text))
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from None

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read the class's table of a file: ``[model]``, ``[train]`` or ``[run]``."""
        document = read_toml(path)
        if not isinstance(document.get(cls._table), dict):
            raise ConfigError(f"{path}: no table [{cls._table}]; it has {sorted(document)}")
        try:
            return cls.from_dict(document[cls._table])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def to_toml(self) -> str:
        """The table that `from_toml` reads. JSON's strings, numbers and booleans are TOML's too."""
        given = {name: value for name, value in self.to_dict().items() if value is not None}
        lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        return f"[{self._table}]\n" + "\n".join(lines) + "\n"

    _table = ""

    def _set_number(self, name: str, kind: type, low: float, high: float, rule: str) -> None:
        """Store field `name` as `kind` (int or float), or refuse it with the rule it broke."""
        value = getattr(self, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise ConfigError(f"{name} must be {rule}. Received: {value!r}")
        if kind is int and value != int(value):
            raise ConfigError(f"{name} must be a whole number, {rule}. Received: {value!r}")
        object.__setattr__(self, name, kind(value) + 0)  # -0.0 is 0.0, in the text too

    def _set_increasing(self, name: str, high: int) -> None:
        """Store a list of whole numbers as a tuple; JSON and TOML have lists alone."""
        given = getattr(self, name)
        values: list[Any] = list(given) if isinstance(given, (list, tuple)) else [None]
        whole = all(
            isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= high
            for value in values
        )
        if not whole or values != sorted(set(values)):
            raise ConfigError(
                f"{name} must be whole numbers from 1 on, each larger than the one before. "
                f"Received: {given!r}"
            )
        object.__setattr__(self, name, tuple(values))

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ConfigError(
                f"{name} must be one of {', '.join(choices)}. Received: {getattr(self, name)!r}"
            )

    def _check_flag(self, name: str) -> None:
        if not isinstance(getattr(self, name), bool):
            raise ConfigError(f"{name} must be true or false. Received: {getattr(self, name)!r}")
