"""Configurations of models, training and runs, as frozen, validated dataclasses.

They convert to and from dictionaries, JSON (sorted keys, stored in weight files) and TOML (written
by people). This package imports no framework.
"""

from pymobilenet.config.model import (
    ACTIVATIONS,
    DEPTHS,
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
    "DEPTHS",
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
