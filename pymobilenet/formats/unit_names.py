"""Tables of a project's names for the modules of a MobileNet, and functions of a layout from them.

A unit is a convolution and its norm. In a name ``{i}`` is the index of the block from 0, ``{n}``
the index from 1 and ``{m}`` that from -1; ``{s}`` is the stage and ``{r}`` the block in its stage;
``{a}`` and ``{b}`` are 2i and 2i + 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pymobilenet.architecture import Layer, blocks_of_stages, layers
from pymobilenet.config import MobileNetConfig

NORM = ("weight", "bias", "running_mean", "running_var")
"""The names of a norm's tensors, in the order of its state dict, as in PyTorch."""

COUNT = "num_batches_tracked"
"""The counter of PyTorch's norms, an int64 scalar, which is used only if the momentum is None."""

PYTORCH = {"norm_eps": 1e-5, "norm_momentum": 0.1}
"""torch.nn.BatchNorm2d's defaults."""

Pair = tuple[str, str]
"""The names of a convolution's module and of its norm's."""


def scaled_by(mean: Sequence[float], std: Sequence[float]) -> dict[str, str]:
    """Return the metadata of images that are scaled by mean and standard deviation.

    Args:
        mean: One value for each channel, for pixels in [0, 1].
        std: One value for each channel, for pixels in [0, 1].
    """
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
        stem: The names of the first unit.
        first: Role -> names in block 0, which has no expansion in V2.
        blocks: Role -> names in the other blocks.
        head: The names of the last unit, if there is one after the blocks.
        biased: Roles whose convolutions have a bias.
    """

    stem: Pair
    first: Mapping[str, Pair]
    blocks: Mapping[str, Pair]
    head: Pair = ("", "")
    biased: tuple[str, ...] = field(default=())

    def of(self, config: MobileNetConfig, unit: Layer) -> Pair:
        """Return the names of a unit's convolution and norm.

        Args:
            config: The config of the net.
            unit: The unit, a row of `pymobilenet.architecture.layers`.
        """
        if unit.role in ("stem", "head"):
            return self.stem if unit.role == "stem" else self.head
        index = int(unit.block.removeprefix("blocks."))
        conv, norm = (self.blocks if index else self.first)[unit.role]
        stage, repeat = blocks_of_stages(config)[index]
        indices = {
            "i": index,
            "n": index + 1,
            "s": stage,
            "r": repeat,
            "a": 2 * index,
            "b": 2 * index + 1,
            "m": index - 1,
        }
        return conv.format(**indices), norm.format(**indices)


def classifier_table(
    tables: Mapping[str, UnitNames], classifier: str
) -> Callable[[MobileNetConfig], dict[str, str]]:
    """Return the `rename` of a layout.

    Args:
        tables: Family -> names.
        classifier: The name of the classifier's module.

    Returns:
        A function of the config that returns canonical name -> the project's name.
    """

    def rename(config: MobileNetConfig) -> dict[str, str]:
        names: dict[str, str] = {}
        for unit in layers(config):
            conv, norm = tables[config.family].of(config, unit)
            names[f"{unit.name}.conv.weight"] = f"{conv}.weight"
            names |= {f"{unit.name}.norm.{leaf}": f"{norm}.{leaf}" for leaf in NORM}
        return names | {f"classifier.{leaf}": f"{classifier}.{leaf}" for leaf in NORM[:2]}

    return rename


def counts(
    tables: Mapping[str, UnitNames],
) -> Callable[[MobileNetConfig], dict[str, np.ndarray]]:
    """Return the `extra_tensors` of a layout: counters of norms, and zeros as biases.

    Args:
        tables: Family -> names.

    Returns:
        A function of the config that returns the project's name -> array.
    """

    def extra_tensors(config: MobileNetConfig) -> dict[str, np.ndarray]:
        table = tables[config.family]
        tensors: dict[str, np.ndarray] = {}
        for unit in layers(config):
            conv, norm = table.of(config, unit)
            tensors[f"{norm}.{COUNT}"] = np.zeros((), np.int64)
            if unit.role in table.biased:
                tensors[f"{conv}.bias"] = np.zeros(unit.out_channels, np.float32)
        return tensors

    return extra_tensors
