"""The metadata of a model's file about its images: `preprocessing`, `mean` and `std`.

`preprocessing` is a name of `PREPROCESSING`. `mean` and `std` are the values by which images
were scaled, each as JSON: three numbers, of red, green and blue in [0, 1] units, with all digits of
a float64.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from pymobilenet import metadata_keys as keys
from pymobilenet.data.dataset import Channels, Dataset, Statistics
from pymobilenet.data.preprocessing import PREPROCESSING, check_name, scaling
from pymobilenet.errors import WeightsError
from pymobilenet.strict_json import excerpt

DEFAULT = "standard"
"""The preprocessing if neither the file nor the user names one: that of `fit`."""


def scaling_metadata(name: str, data: Dataset) -> dict[str, str]:
    """Return the metadata of a trained model about its images.

    Args:
        name: The preprocessing.
        data: The training images.

    Raises:
        ConfigError: An unknown preprocessing.
    """
    mean, std = scaling(name, data)
    return {keys.PREPROCESSING: name, keys.MEAN: _json(mean), keys.STD: _json(std)}


def preprocessing_of(metadata: Mapping[str, str], override: str | None, source: str) -> str:
    """Return the preprocessing of a model: an override, else that of its file, else `DEFAULT`.

    Args:
        metadata: Of the file.
        override: The user's choice, or None.
        source: Name of the file, for error messages.

    Raises:
        ConfigError: `override` is an unknown preprocessing.
        WeightsError: The file names an unknown preprocessing.
    """
    if override is not None:
        return check_name(override)
    name = metadata.get(keys.PREPROCESSING, DEFAULT)
    if name not in PREPROCESSING:
        raise WeightsError(
            f"{source}: metadata {keys.PREPROCESSING} must be one of {', '.join(PREPROCESSING)}; "
            f"--preprocessing overrides it. Received: {name!r}"
        )
    return name


def statistics_of(metadata: Mapping[str, str], name: str, source: str) -> Statistics | None:
    """Return the mean and standard deviation that a model's file gives for "standard".

    Args:
        metadata: Of the file.
        name: The preprocessing, from `preprocessing_of`.
        source: Name of the file, for error messages.

    Returns:
        Mean and standard deviation; None if the file does not contain them, or if `name` or the
        file's preprocessing is not "standard".

    Raises:
        WeightsError: Only one of `mean` and `std` is present, or a value is not three finite
            numbers (above 0 for `std`).
    """
    if not name == metadata.get(keys.PREPROCESSING, DEFAULT) == "standard":
        return None
    present = [key for key in (keys.MEAN, keys.STD) if key in metadata]
    if len(present) == 1:
        raise WeightsError(
            f"{source}: metadata {keys.MEAN} and {keys.STD} must both be present, or neither. "
            f"Received: {present[0]} only"
        )
    if not present:
        return None
    return _channels(metadata, keys.MEAN, source), _channels(metadata, keys.STD, source)


def _channels(metadata: Mapping[str, str], key: str, source: str) -> Channels:
    try:
        values: Any = json.loads(metadata[key])
    except (ValueError, RecursionError):
        values = None
    is_three = isinstance(values, list) and len(values) == 3
    if not is_three or not all(_is_valid(key, value) for value in values):
        raise WeightsError(
            f"{source}: metadata {key} must be JSON, three finite numbers"
            f"{' above 0' if key == keys.STD else ''}. Received: {excerpt(metadata[key])}"
        )
    red, green, blue = map(float, values)
    return red, green, blue


def _is_valid(key: str, value: Any) -> bool:
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        return False
    return key == keys.MEAN or value > 0


def _json(values: Channels) -> str:
    return json.dumps([float(value) for value in values], separators=(",", ":"), allow_nan=False)
