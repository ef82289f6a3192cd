"""What a model's file says of its images: metadata `preprocessing`, `mean` and `std`.

`preprocessing` is a name of `PREPROCESSING`. `mean` and `std` are what the images were scaled by,
each JSON: three numbers, of red, green and blue in [0, 1] units, with all digits of a float64.
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
from pymobilenet.strict_json import shown

DEFAULT = "standard"
"""What images go through where neither the file nor the user says it: what `fit` does."""


def scaling_metadata(name: str, data: Dataset) -> dict[str, str]:
    """What the file of a model says that is trained on `data` by the preprocessing `name`.

    Raises:
        ConfigError: an unknown name.
    """
    mean, std = scaling(name, data)
    return {keys.PREPROCESSING: name, keys.MEAN: _json(mean), keys.STD: _json(std)}


def preprocessing_of(metadata: Mapping[str, str], asked: str | None, source: str) -> str:
    """What images of a model go through: `asked`, else what its file `source` says, else `DEFAULT`.

    Raises:
        ConfigError: no such preprocessing was asked for.
        WeightsError: the file names one that this package does not know.
    """
    if asked is not None:
        return check_name(asked)
    said = metadata.get(keys.PREPROCESSING, DEFAULT)
    if said not in PREPROCESSING:
        raise WeightsError(
            f"{source}: metadata {keys.PREPROCESSING} must be one of {', '.join(PREPROCESSING)}; "
            f"--preprocessing overrides it. Received: {said!r}"
        )
    return said


def statistics_of(metadata: Mapping[str, str], name: str, source: str) -> Statistics | None:
    """Mean and deviation that "standard" stands for in a model's file; None where it says none.

    None too for another `name`, whose numbers `PREPROCESSING` has, and for a file that is scaled by
    another name than "standard", whose numbers are that other's.

    Args:
        metadata: of the file.
        name: what images are to go through, from `preprocessing_of`.
        source: the file, for messages.

    Raises:
        WeightsError: one of the two alone, or what is not three finite numbers, for `std` above 0.
    """
    if not name == metadata.get(keys.PREPROCESSING, DEFAULT) == "standard":
        return None
    found = [key for key in (keys.MEAN, keys.STD) if key in metadata]
    if len(found) == 1:
        raise WeightsError(
            f"{source}: metadata {keys.MEAN} and {keys.STD} must be there both, or neither. "
            f"Received: {found[0]} alone"
        )
    if not found:
        return None
    return _channels(metadata, keys.MEAN, source), _channels(metadata, keys.STD, source)


def _channels(metadata: Mapping[str, str], key: str, source: str) -> Channels:
    try:
        values: Any = json.loads(metadata[key])
    except (ValueError, RecursionError):
        values = None
    is_three = isinstance(values, list) and len(values) == 3
    if not is_three or not all(_keeps(key, value) for value in values):
        raise WeightsError(
            f"{source}: metadata {key} must be JSON, three finite numbers"
            f"{' above 0' if key == keys.STD else ''}. Received: {shown(metadata[key])}"
        )
    red, green, blue = map(float, values)
    return red, green, blue


def _keeps(key: str, value: Any) -> bool:
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        return False
    return key == keys.MEAN or value > 0


def _json(values: Channels) -> str:
    return json.dumps([float(value) for value in values], separators=(",", ":"), allow_nan=False)
