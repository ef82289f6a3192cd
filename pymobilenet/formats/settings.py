"""What changes a net's numbers and no tensor shows: from whom it comes, and what is assumed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pymobilenet.config import ACTIVATIONS, PADDINGS, MobileNetConfig, read_toml
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats.layout import Layout

OPEN: dict[str, tuple[Any, ...]] = {
    "stem_stride": (2, 1),
    "padding": PADDINGS,
    "activation": ACTIVATIONS,
    "norm_eps": (1e-5, 1e-3),
}
"""Field -> the values in use. They change what a net computes; shapes and names show none."""

FIELDS = tuple(field.name for field in fields(MobileNetConfig))


@dataclass(frozen=True)
class Settings:
    """What is known of a net besides its tensors.

    Attributes:
        file: What the file itself says, or one that belongs to it.
        said_in: Where it says so: "model_config", "config.json"; for messages.
        user: What the user says.
        sample: What a sample decides.
    """

    file: Mapping[str, Any]
    said_in: str
    user: Mapping[str, Any]
    sample: Mapping[str, Any]

    def known(self, source: str) -> dict[str, Any]:
        """All of them; the file and the user may not contradict each other.

        Raises:
            WeightsError: They do.
        """
        for name, value in self.user.items():
            if name in self.file and self.file[name] != value:
                raise WeightsError(
                    f"{source}: its {self.said_in} says {name} {self.file[name]!r}. "
                    f"Received: {value!r}"
                )
        return {**self.sample, **self.user, **self.file}


def parse_settings(changes: Sequence[str], config: str | Path | None = None) -> dict[str, Any]:
    """Fields from ``field=value`` texts and from the table [model] of a TOML file.

    The values are TOML's; quotes around a text can be left out.

    Raises:
        ConfigError: A field that does not exist, a text without "=", a file without [model], or
            a field that both name with different values.

    >>> parse_settings(["stem_stride=1", "padding=keras"])
    {'stem_stride': 1, 'padding': 'keras'}
    """
    settings: dict[str, Any] = {}
    if config is not None:
        table = read_toml(config).get("model")
        if not isinstance(table, dict):
            raise ConfigError(f"{config}: no table [model]")
        settings = dict(check_settings(table))
    for change in changes:
        name, equals, text = (part.strip() for part in change.partition("="))
        if not equals:
            raise ConfigError(f"a setting must be field=value. Received: {change!r}")
        (name, value) = next(iter(check_settings({name: _value(text)}).items()))
        if settings.get(name, value) != value:
            raise ConfigError(f"{config} says {name} = {settings[name]!r}. Received: {change!r}")
        settings[name] = value
    return settings


def check_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """`settings`, if every field is one of `MobileNetConfig` and every open one has a value in use.

    Raises:
        ConfigError: Another field, or a value outside its range.
    """
    for name in settings:
        if name not in FIELDS:
            raise ConfigError(f"a setting must be one of {', '.join(FIELDS)}. Received: {name!r}")
    MobileNetConfig.from_dict({k: v for k, v in settings.items() if k in OPEN})
    return settings


def complete(
    source: str, inferred: MobileNetConfig, layout: Layout, settings: Settings
) -> tuple[MobileNetConfig, dict[str, Any]]:
    """The config of a net, and the fields in it that are the layout's defaults.

    Args:
        source: The file, for messages.
        inferred: What the tensors show.
        layout: Whose defaults are taken for what is not known.
        settings: What is known.

    Raises:
        WeightsError: A field that nobody knows, or one that the tensors contradict.
    """
    known = settings.known(source)
    unknown = [name for name in OPEN if name not in known and name not in layout.fixed]
    if unknown:
        raise WeightsError(ask(source, unknown))
    own = {name: value for name, value in layout.fixed.items() if name != "rounding"}
    config = MobileNetConfig.from_dict({**inferred.to_dict(), **own, **known})
    assumed = {name: getattr(config, name) for name in (*OPEN, "resolution") if name not in known}
    return config, assumed


def ask(source: str, unknown: Sequence[str]) -> str:
    """The sentence that asks for settings, with the choices."""
    choices = "; ".join(f"{name} ({' or '.join(map(str, OPEN[name]))})" for name in unknown)
    example = " ".join(f"--set {name}={OPEN[name][0]}" for name in unknown)
    return (
        f"{source}: neither its tensors nor the file say {choices}. Say so, as {example}, in a "
        "--config, or let a --sample decide"
    )


def _value(text: str) -> Any:
    """A TOML value; what is none is the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
