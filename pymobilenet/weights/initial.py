"""Initial weights, with the same bits in every backend and language.

Initialization schemes, as in the named framework (fan_in = I/g * kH * kW, fan_out = O * kH * kW;
for the classifier, features and classes):

- ``he``: He uniform (He et al., arXiv:1502.01852), +-sqrt(6 / fan_in); the classifier's weight
  +-1/sqrt(fan_in), its bias 0. The default of `initial_state` and of `Backend.build`, with which
  the recordings of `parity` were made.
- ``torch``: the defaults of `nn.Conv2d` and `nn.Linear`, +-1/sqrt(fan_in), including the
  classifier's bias. The default of training runs (`RunConfig`), because V1 trains better from it
  than from ``he``; docs/training.md has the measurements.
- ``flux``: `Flux.glorot_uniform`, +-sqrt(6 / (fan_in + fan_out)); bias 0.
- ``torchvision``: its MobileNetV2 (models/mobilenetv2.py): convolutions normal with standard
  deviation sqrt(2 / fan_out), the classifier normal with standard deviation 0.01, bias 0.
- ``keras``: `GlorotUniform` with Keras' fans: those of a depthwise kernel (kh, kw, C, 1) are
  kh * kw * C and kh * kw.

Norms start with weight 1, bias 0, running mean 0 and running variance 1.

Uniform numbers require only a square root and a product, which are correctly rounded, so that all
mathematics libraries agree; for normal numbers see `pymobilenet.normal`. Values are rounded to
float32 for every dtype, so that a seed gives the same model in every precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pymobilenet.architecture import parameter_shapes
from pymobilenet.config import MobileNetConfig
from pymobilenet.errors import ConfigError
from pymobilenet.normal import normal64
from pymobilenet.philox import Stream, raw_words, uniform64
from pymobilenet.weights.state import State, state_shapes

_CONSTANTS = {
    "norm.weight": 1,
    "norm.bias": 0,
    "running_mean": 0,
    "running_var": 1,
    "classifier.bias": 0,
}

Draw = Callable[[np.ndarray], np.ndarray]
"""A function from uint64 words to as many float64 values."""


def initial_state(
    config: MobileNetConfig, seed: int, dtype: np.dtype | str = "float32", init: str = "he"
) -> State:
    """Return random initial parameters, and initial running statistics.

    The tensor number ``i`` of `parameter_shapes` is drawn, in row-major order, from the words of
    stream INIT with epoch 0 and index ``i``.

    Args:
        config: The architecture.
        seed: In [0, 2**64).
        dtype: "float32" or "float64".
        init: "he", "torch", "flux", "torchvision" or "keras"; see
            `pymobilenet.weights.initial`.

    Returns:
        Arrays by canonical name, of this dtype.

    Raises:
        ConfigError: An unknown scheme or an invalid seed.

    Examples:
        >>> from pymobilenet import MobileNetConfig
        >>> initial_state(MobileNetConfig(), seed=0)["stem.conv.weight"].shape
        (32, 3, 3, 3)
    """
    if init not in SCHEMES:
        raise ConfigError(f"init must be one of {', '.join(SCHEMES)}. Received: {init!r}")
    index = {name: position for position, name in enumerate(parameter_shapes(config))}
    state: State = {}
    for name, shape in state_shapes(config).items():
        draw = SCHEMES[init](name, shape, config)
        if draw is None:
            kind = next(kind for kind in _CONSTANTS if name.endswith(kind))
            values = np.full(shape, _CONSTANTS[kind], np.float32)
        else:
            words = raw_words(seed, Stream.INIT, epoch=0, index=index[name], count=math.prod(shape))
            values = draw(words).astype(np.float32).reshape(shape)
        state[name] = values.astype(dtype)
    return state


def _he(name: str, shape: tuple[int, ...], _config: MobileNetConfig) -> Draw | None:
    if name == "classifier.weight":
        return _uniform(math.sqrt(1.0 / math.prod(shape[1:])))
    return _uniform(math.sqrt(6.0 / math.prod(shape[1:]))) if _is_conv(name) else None


def _torch(name: str, shape: tuple[int, ...], config: MobileNetConfig) -> Draw | None:
    if name == "classifier.bias":
        shape = parameter_shapes(config)["classifier.weight"]
    elif not _is_conv(name) and name != "classifier.weight":
        return None
    return _uniform(math.sqrt(1.0 / math.prod(shape[1:])))


def _flux(name: str, shape: tuple[int, ...], _config: MobileNetConfig) -> Draw | None:
    if not _is_conv(name) and name != "classifier.weight":
        return None
    taps = math.prod(shape[2:])
    return _uniform(math.sqrt(6.0 / (shape[0] * taps + shape[1] * taps)))


def _torchvision(name: str, shape: tuple[int, ...], _config: MobileNetConfig) -> Draw | None:
    if name == "classifier.weight":
        return _normal(0.01)
    return _normal(math.sqrt(2.0 / (shape[0] * math.prod(shape[2:])))) if _is_conv(name) else None


def _keras(name: str, shape: tuple[int, ...], config: MobileNetConfig) -> Draw | None:
    if name.endswith("depthwise.conv.weight"):
        taps = math.prod(shape[2:])
        return _uniform(math.sqrt(6.0 / (taps * shape[0] + taps)))
    return _flux(name, shape, config)


SCHEMES = {
    "he": _he,
    "torch": _torch,
    "flux": _flux,
    "torchvision": _torchvision,
    "keras": _keras,
}
"""Schemes by name: functions that return how a tensor is drawn, or None if it is constant."""


def _is_conv(name: str) -> bool:
    return name.endswith("conv.weight")


def _uniform(bound: float) -> Draw:
    return lambda words: (2.0 * uniform64(words) - 1.0) * bound


def _normal(deviation: float) -> Draw:
    return lambda words: normal64(words) * deviation
