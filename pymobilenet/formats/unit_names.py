"""A project's names of a MobileNet's modules as one table, and what follows from it.

In a name ``{i}`` stands for the block, counted from 0, ``{n}`` from 1, ``{s}`` for the stage and
``{r}`` for the block in its stage, ``{a}`` and ``{b}`` for 2i and 2i + 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pymobilenet.architecture import V1, V2, Layer, layers
from pymobilenet.config import MobileNetConfig

NORM = ("weight", "bias", "running_mean", "running_var")
"""The names of a norm's tensors, in the order of a module's state dict, here as in PyTorch."""

COUNT = "num_batches_tracked"
"""What PyTorch's norms count, an int64 scalar; it is read only where their momentum is None."""

PYTORCH = {"norm_eps": 1e-5, "norm_momentum": 0.1}
"""torch.nn.BatchNorm2d's defaults."""

Pair = tuple[str, str]
"""The names of a convolution's module and of its norm's."""


def scaled_by(mean: Sequence[float], std: Sequence[float]) -> dict[str, str]:
    """Metadata of images that are scaled by mean and deviation, in [0, 1] units."""
    return {
        "preprocessing": "standard",
        "mean": json.dumps(list(mean), separators=(",", ":")),
        "std": json.dumps(list(std), separators=(",", ":")),
    }


IMAGENET = scaled_by((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""torchvision, transforms/_presets.py, ImageClassification; timm, data/constants.py."""

HALF = scaled_by((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""timm, data/constants.py, IMAGENET_INCEPTION_MEAN; transformers, MobileNetV1ImageProcessor."""


@dataclass(frozen=True)
class UnitNames:
    """One project's names for one family.

    Attributes:
        stem, head: Of the first convolution, and of V2's last one.
        first: Role -> names in block 0, which V2 builds without an expansion.
        blocks: Role -> names in the other blocks.
        biased: Roles whose convolutions have a bias.
    """

    stem: Pair
    first: Mapping[str, Pair]
    blocks: Mapping[str, Pair]
    head: Pair = ("", "")
    biased: tuple[str, ...] = field(default=())

    def of(self, config: MobileNetConfig, unit: Layer) -> Pair:
        """The names of a unit's convolution and norm."""
        if unit.role in ("stem", "head"):
            return self.stem if unit.role == "stem" else self.head
        index = int(unit.block.removeprefix("blocks."))
        conv, norm = (self.blocks if index else self.first)[unit.role]
        stage, repeat = _places(config.family)[index]
        places = {
            "i": index,
            "n": index + 1,
            "s": stage,
            "r": repeat,
            "a": 2 * index,
            "b": 2 * index + 1,
            "m": index - 1,
        }
        return conv.format(**places), norm.format(**places)


def _places(family: str) -> list[tuple[int, int]]:
    """(stage, block in the stage) of each block."""
    repeats = [row.repeats for row in V1] if family == "v1" else [row.repeats for row in V2]
    return [(stage, repeat) for stage, count in enumerate(repeats) for repeat in range(count)]


def classifier_table(
    tables: Mapping[str, UnitNames], classifier: str
) -> Callable[[MobileNetConfig], dict[str, str]]:
    """The `rename` of a layout: canonical name -> the project's."""

    def rename(config: MobileNetConfig) -> dict[str, str]:
        names: dict[str, str] = {}
        for unit in layers(config):
            conv, norm = tables[config.family].of(config, unit)
            names[f"{unit.name}.conv.weight"] = f"{conv}.weight"
            names |= {f"{unit.name}.norm.{part}": f"{norm}.{part}" for part in NORM}
        return names | {f"classifier.{part}": f"{classifier}.{part}" for part in NORM[:2]}

    return rename


def counts(
    tables: Mapping[str, UnitNames],
) -> Callable[[MobileNetConfig], dict[str, np.ndarray]]:
    """The `besides` of a layout: the norms' counts, and zeros for the convolutions' biases."""

    def besides(config: MobileNetConfig) -> dict[str, np.ndarray]:
        table = tables[config.family]
        extra: dict[str, np.ndarray] = {}
        for unit in layers(config):
            conv, norm = table.of(config, unit)
            extra[f"{norm}.{COUNT}"] = np.zeros((), np.int64)
            if unit.role in table.biased:
                extra[f"{conv}.bias"] = np.zeros(unit.out_channels, np.float32)
        return extra

    return besides
