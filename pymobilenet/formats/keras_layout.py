"""Keras' MobileNet and MobileNetV2: names and axes of their layers.

Source: keras 3.15, applications/mobilenet.py and mobilenet_v2.py. Arrays are named
``<layer>/<variable>``, as `pymobilenet.formats.keras_h5` gives them. Axes: convolutions
(kH, kW, I, O), depthwise ones (kH, kW, C, 1), MobileNet's classifier, a 1x1 convolution,
(1, 1, features, classes), MobileNetV2's (features, classes).

Keras computes what a config with ``padding="keras"`` computes, at most sizes. That padding adds one
row and column of zeros below and to the right if the stride is 2. Keras does the same if the map
has an even number of rows and columns. If the number is odd,

- the stem (both nets, "same") pads on both sides, which gives one row more;
- MobileNet's depthwise convolutions still pad below and to the right;
- MobileNetV2's depthwise convolutions (`correct_pad`) pad on both sides.

So MobileNet agrees at even heights and widths and MobileNetV2 at multiples of 32, and these layouts
reject a config with another resolution. At other sizes both programs accept the weights but compute
different functions.

At unpublished values of `width_mult`, such as 0.745, MobileNetV2's widths in Keras can differ from
those of ``rounding="multiple_of_8"`` (24 times 0.745 is truncated to 17 before it is rounded), and
Keras rejects the file because of its shapes. MobileNet's dropout of 0.001 before the classifier and
the softmax after the logits are arguments of the model in Keras, which no file of weights states;
here they are fields of the config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pymobilenet.architecture import Layer as Unit
from pymobilenet.architecture import layers
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats.layout import Layout

NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}

CLASSIFIERS = ("conv_preds", "predictions", "dense")
"""Names of the classifier's layer, in Keras and in nets that are built upon these."""

IMAGES = {family: {"preprocessing": "keras"} for family in ("v1", "v2")}
"""The preprocessing by family: keras 3.15, applications/mobilenet.py and mobilenet_v2.py,
preprocess_input, mode "tf"."""

COMMON = {"stem_stride": 2, "padding": "keras", "activation": "relu6", "norm_eps": 1e-3}


def _mobilenet_unit(unit: Unit) -> tuple[str, str]:
    """Return Keras' names of a unit's convolution and of its norm."""
    if unit.name == "stem":
        return "conv1", "conv1_bn"
    short = {"depthwise": "dw", "pointwise": "pw"}[unit.role]
    convolution = f"conv_{short}_{_block(unit) + 1}"
    return convolution, f"{convolution}_bn"


def _mobilenet_v2_unit(unit: Unit) -> tuple[str, str]:
    """Return Keras' names of a unit's convolution and of its norm."""
    if unit.name == "stem":
        return "Conv1", "bn_Conv1"
    if unit.name == "head":
        return "Conv_1", "Conv_1_bn"
    block = f"block_{_block(unit)}" if _block(unit) else "expanded_conv"
    return f"{block}_{unit.role}", f"{block}_{unit.role}_BN"


def _block(unit: Unit) -> int:
    return int(unit.block.removeprefix("blocks."))


def _renamer(
    model: str, unit_names: Callable[[Unit], tuple[str, str]], classifier: str, multiple: int
) -> Callable[[MobileNetConfig], dict[str, str]]:
    """Return the `rename` of a layout that agrees with Keras at multiples of `multiple` pixels."""

    def rename(config: MobileNetConfig) -> dict[str, str]:
        if config.resolution % multiple:
            raise ConfigError(
                f"resolution must be a multiple of {multiple} for Keras' {model}, which pads odd "
                f"maps differently. Received: {config.resolution}"
            )
        names: dict[str, str] = {}
        for unit in layers(config):
            convolution, norm = unit_names(unit)
            names[f"{unit.name}.conv.weight"] = f"{convolution}/kernel"
            names |= {
                f"{unit.name}.norm.{leaf}": f"{norm}/{variable}" for leaf, variable in NORM.items()
            }
        names["classifier.weight"] = f"{classifier}/kernel"
        names["classifier.bias"] = f"{classifier}/bias"
        return names

    return rename


def from_keras(name: str, array: np.ndarray) -> np.ndarray:
    """Return a view of a Keras array with canonical axes.

    Args:
        name: The canonical name of the tensor.
        array: The array with Keras' axes.

    Returns:
        The view: (O, I/g, kH, kW) for a convolution, (classes, features) for the classifier.

    Raises:
        WeightsError: The array has another number of axes than Keras' arrays of this kind.
    """
    if name == "classifier.weight":
        if array.ndim == 4 and array.shape[:2] == (1, 1):
            array = array[0, 0]
        _check_axes(name, array, 2, "([1, 1,] features, classes)")
        return array.T
    if name.endswith(".conv.weight"):
        _check_axes(name, array, 4, "(kH, kW, I, O), or (kH, kW, C, 1) for a depthwise one")
        return array.transpose(2, 3, 0, 1) if "depthwise" in name else array.transpose(3, 2, 0, 1)
    return array


def to_dense(name: str, array: np.ndarray) -> np.ndarray:
    """Invert `from_keras`, with the classifier of MobileNetV2: (features, classes).

    Args:
        name: The canonical name of the tensor.
        array: The array with canonical axes.

    Returns:
        A view with Keras' axes.
    """
    if name == "classifier.weight":
        return array.T
    if name.endswith(".conv.weight"):
        return array.transpose(2, 3, 0, 1) if "depthwise" in name else array.transpose(2, 3, 1, 0)
    return array


def _to_convolution(name: str, array: np.ndarray) -> np.ndarray:
    """Invert `from_keras`, with the classifier of MobileNet: (1, 1, features, classes)."""
    array = to_dense(name, array)
    return array[None, None] if name == "classifier.weight" else array


def _check_axes(name: str, array: np.ndarray, count: int, axes: str) -> None:
    if array.ndim != count:
        raise WeightsError(f"{name} must have Keras' axes {axes}. Received: shape {array.shape}")


UNIT_NAMES = {"v1": _mobilenet_unit, "v2": _mobilenet_v2_unit}
"""Family -> the names of a unit's convolution and norm."""


def _fixed(**fields: Any) -> Mapping[str, Any]:
    return COMMON | fields


MOBILENET = Layout(
    name="keras",
    families=("v1",),
    fixed=_fixed(rounding="floor", norm_momentum=0.01),  # 1 - Keras' default momentum, 0.99
    rename=_renamer("MobileNet", _mobilenet_unit, "conv_preds", multiple=2),
    from_peer=from_keras,
    to_peer=_to_convolution,
    classifiers=CLASSIFIERS,
    images=IMAGES,
    source="keras.applications",
    channels_last=True,
)

MOBILENET_V2 = Layout(
    name="keras",
    families=("v2",),
    fixed=_fixed(rounding="multiple_of_8", norm_momentum=0.001),  # 1 - 0.999
    rename=_renamer("MobileNetV2", _mobilenet_v2_unit, "predictions", multiple=32),
    from_peer=from_keras,
    to_peer=to_dense,
    classifiers=CLASSIFIERS,
    images=IMAGES,
    source="keras.applications",
    channels_last=True,
)

LAYOUTS = (MOBILENET, MOBILENET_V2)
