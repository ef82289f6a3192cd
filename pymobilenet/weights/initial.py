"""The weights a model starts from, the same bits in every backend and language.

Rules by name, each the one its framework has for these layers (fan_in = I/g * kH * kW,
fan_out = O * kH * kW; of the classifier, features and classes):

- ``he``: He uniform (He et al., arXiv:1502.01852), +-sqrt(6 / fan_in); the classifier
  +-1/sqrt(fan_in), its bias zero. The default.
- ``torch``: what `nn.Conv2d` and `nn.Linear` start from: +-1/sqrt(fan_in), the classifier's bias
  too.
- ``flux``: `Flux.glorot_uniform`, +-sqrt(6 / (fan_in + fan_out)); bias zero.
- ``torchvision``: its MobileNetV2 (models/mobilenetv2.py): convolutions normal with deviation
  sqrt(2 / fan_out), the classifier normal with deviation 0.01, bias zero.
- ``keras``: `GlorotUniform` as Keras counts fans: those of a depthwise kernel (kh, kw, C, 1) are
  kh * kw * C and kh * kw.

Norms start at weight 1, bias 0, running mean 0 and variance 1.

Uniform draws take a square root and a product only, all exact or correctly rounded, so no two
mathematics libraries can disagree; normal ones see `pymobilenet.normal`. Values are rounded to
float32 in every dtype: a seed names one model, not one per precision.
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
"""Words to as many float64 values."""


def initial_state(
    config: MobileNetConfig, seed: int, dtype: np.dtype | str = "float32", init: str = "he"
) -> State:
    """Draw all parameters and running statistics of `config` for `seed` by the rule `init`.

    The tensor at position ``i`` of `parameter_shapes` is drawn, in row-major order, from the words
    of stream INIT with epoch 0 and index ``i``.

    Raises:
        ConfigError: A rule of another name, or a seed that is none.
    """
    if init not in RULES:
        raise ConfigError(f"init must be one of {', '.join(RULES)}. Received: {init!r}")
    index = {name: position for position, name in enumerate(parameter_shapes(config))}
    state: State = {}
    for name, shape in state_shapes(config).items():
        draw = RULES[init](name, shape, config)
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


RULES = {
    "he": _he,
    "torch": _torch,
    "flux": _flux,
    "torchvision": _torchvision,
    "keras": _keras,
}
"""Rule by name: how a tensor is drawn, None where it is constant."""


def _is_conv(name: str) -> bool:
    return name.endswith("conv.weight")


def _uniform(bound: float) -> Draw:
    return lambda words: (2.0 * uniform64(words) - 1.0) * bound


def _normal(deviation: float) -> Draw:
    return lambda words: normal64(words) * deviation
