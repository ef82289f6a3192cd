"""What a MobileNet is and how it is trained, as frozen, validated dataclasses.

They go to and from plain dictionaries, JSON (sorted keys, the form stored in weight files) and
TOML (the form people write). Nothing here knows a framework.
"""

from pymobilenet.config.model import (
    ACTIVATIONS,
    FAMILIES,
    FAMILY_DEFAULTS,
    PADDINGS,
    RESOLUTIONS,
    ROUNDINGS,
    STEM_CHANNELS,
    MobileNetConfig,
    rounded,
)
from pymobilenet.config.record import read_toml
from pymobilenet.config.run import RunConfig
from pymobilenet.config.train import OPTIMIZERS, PREPROCESSINGS, SCHEDULES, TrainConfig

__all__ = [
    "ACTIVATIONS",
    "FAMILIES",
    "FAMILY_DEFAULTS",
    "OPTIMIZERS",
    "PADDINGS",
    "PREPROCESSINGS",
    "RESOLUTIONS",
    "ROUNDINGS",
    "SCHEDULES",
    "STEM_CHANNELS",
    "MobileNetConfig",
    "RunConfig",
    "TrainConfig",
    "read_toml",
    "rounded",
]
