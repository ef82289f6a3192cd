"""Settings that change a net's outputs and that its tensors do not show.

They are stated by the file or the user, found with a sample, or assumed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pymobilenet.config import ACTIVATIONS, PADDINGS, MobileNetConfig, read_toml
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.files import read_text_file
from pymobilenet.formats.layout import Layout
from pymobilenet.strict_json import check_texts, parse_object

OPEN: dict[str, tuple[Any, ...]] = {
    "stem_stride": (2, 1),
    "padding": PADDINGS,
    "activation": ACTIVATIONS,
    "norm_eps": (1e-5, 1e-3),
}
"""Field -> its possible values, of the fields that change outputs and that neither the shapes nor
the names of tensors show."""

FIELDS = tuple(field.name for field in fields(MobileNetConfig))


@dataclass(frozen=True)
class Settings:
    """The known fields of a net's config, by where they come from.

    Attributes:
        file: Fields that the file states, or the config.json in its folder.
        file_part: Where it states them, for messages: "model_config", "config.json".
        user: Fields that the user states.
        sample: Fields that a sample determines.
    """

    file: Mapping[str, Any]
    file_part: str
    user: Mapping[str, Any]
    sample: Mapping[str, Any]

    def known(self, source: str) -> dict[str, Any]:
        """Return all known fields.

        Args:
            source: The file, for messages.

        Raises:
            WeightsError: The file and the user state different values.
        """
        for name, value in self.user.items():
            if name in self.file and self.file[name] != value:
                raise WeightsError(
                    f"{source}: its {self.file_part} states {name} {self.file[name]!r}. "
                    f"Received: {value!r}"
                )
        return {**self.sample, **self.user, **self.file}


def parse_settings(changes: Sequence[str], config: str | Path | None = None) -> dict[str, Any]:
    """Parse settings from ``field=value`` texts and from the table [model] of a TOML file.

    Args:
        changes: Texts ``field=value``; the value is TOML, and quotes around a text are optional.
        config: The TOML file, or None.

    Returns:
        Field -> value.

    Raises:
        ConfigError: A field does not exist, a text has no "=", the file has no table [model], or
            text and file have different values of a field.

    >>> parse_settings(["stem_stride=1", "padding=keras"])
    {'stem_stride': 1, 'padding': 'keras'}
    """
    settings: dict[str, Any] = {}
    if config is not None:
        table = read_toml(config).get("model")
        if not isinstance(table, dict):
            raise ConfigError(f"{config}: must have a table [model]")
        settings = dict(check_settings(table))
    for change in changes:
        name, equals, text = (part.strip() for part in change.partition("="))
        if not equals:
            raise ConfigError(f"a setting must be field=value. Received: {change!r}")
        (name, value) = next(iter(check_settings({name: _value(text)}).items()))
        if settings.get(name, value) != value:
            raise ConfigError(f"{config} states {name} = {settings[name]!r}. Received: {change!r}")
        settings[name] = value
    return settings


def read_map(path: str | Path) -> dict[str, str]:
    """Read a map of names, as ``convert --write-map`` writes it.

    Args:
        path: A JSON file.

    Returns:
        The name in the model's file -> canonical name.

    Raises:
        ConfigError: The file is missing, or not a JSON object of texts.
    """
    try:
        return dict(check_texts(parse_object(read_text_file(path)), str(path)))
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def check_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check the fields of settings, and the values of those in `OPEN`.

    Args:
        settings: Field -> value.

    Returns:
        The same settings.

    Raises:
        ConfigError: A field is not one of `MobileNetConfig`, or a value is out of its range.
    """
    for name in settings:
        if name not in FIELDS:
            raise ConfigError(f"a setting must be one of {', '.join(FIELDS)}. Received: {name!r}")
    MobileNetConfig.from_dict({name: value for name, value in settings.items() if name in OPEN})
    return settings


def complete(
    source: str,
    inferred: MobileNetConfig,
    layout: Layout,
    settings: Settings,
    ambiguous: Sequence[str] = (),
) -> tuple[MobileNetConfig, dict[str, Any]]:
    """Complete a config with known settings and the defaults of a layout.

    Args:
        source: The file, for messages.
        inferred: The config inferred from the tensors.
        layout: The layout, for the defaults.
        settings: The known settings.
        ambiguous: Fields for which the layout's default is not certain enough.

    Returns:
        The config, and the fields of it that are defaults of the layout.

    Raises:
        WeightsError: A field is not known and the layout has no default, or the file and the user
            state different values.
    """
    known = settings.known(source)
    unsettled = set(OPEN) - (set(layout.fixed) - set(ambiguous)) - set(known)
    if unsettled:
        message = unknown_settings_message(source, [name for name in OPEN if name in unsettled])
        if ambiguous:
            choice = f"--from {layout.name} takes the values of {layout.source}"
            message = f"{message}; {choice} ({layout.namesakes})"
        raise WeightsError(message)
    defaults = {name: value for name, value in layout.fixed.items() if name != "rounding"}
    config = MobileNetConfig.from_dict({**inferred.to_dict(), **defaults, **known})
    assumed = {name: getattr(config, name) for name in (*OPEN, "resolution") if name not in known}
    return config, assumed


def unknown_settings_message(source: str, unknown: Sequence[str]) -> str:
    """Return the message that asks the user for settings.

    Args:
        source: The file.
        unknown: Fields of `OPEN`.
    """
    choices = "; ".join(f"{name} ({' or '.join(map(str, OPEN[name]))})" for name in unknown)
    example = " ".join(f"--set {name}={OPEN[name][0]}" for name in unknown)
    return (
        f"{source}: neither its tensors nor the file state {choices}. State them, as {example}, or "
        "in a --config; or give a --sample"
    )


def _value(text: str) -> Any:
    """Return the value of a TOML text, or the text itself if it is not TOML."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except ValueError as error:  # an integer of more digits than Python converts
        raise ConfigError(f"{error}. Received: {text[:40]!r}...") from None
