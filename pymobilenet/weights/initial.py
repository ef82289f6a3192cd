"""The weights a model starts from, the same bits in every backend and language.

The rule is He uniform, He et al., arXiv:1502.01852: convolution weights are uniform in
+-sqrt(6 / fan_in) with fan_in = I/g * kH * kW; the classifier's weight is uniform in
+-1/sqrt(fan_in) and its bias zero. Norms start at weight 1, bias 0, running mean 0 and variance 1.

Only a uniform draw, a square root and a product are used, all exact or correctly rounded, so no
two mathematics libraries can disagree. Values are rounded to float32 in every dtype: a seed names
one model, not one per precision.
"""

from __future__ import annotations

import math

import numpy as np

from pymobilenet.architecture import parameter_shapes
from pymobilenet.config import MobileNetConfig
from pymobilenet.philox import Stream, raw_words, uniform64
from pymobilenet.weights.state import State, state_shapes

_CONSTANTS = {"norm.weight": 1, "norm.bias": 0, "running_mean": 0, "running_var": 1}


def initial_state(config: MobileNetConfig, seed: int, dtype: np.dtype | str = "float32") -> State:
    """Draw all parameters and running statistics of `config` for `seed`.

    The tensor at position ``i`` of `parameter_shapes` is drawn, in row-major order, from the words
    of stream INIT with epoch 0 and index ``i``.
    """
    index = {name: position for position, name in enumerate(parameter_shapes(config))}
    state: State = {}
    for name, shape in state_shapes(config).items():
        if name.endswith("conv.weight"):
            values = _uniform(shape, 6.0, seed, index[name])
        elif name == "classifier.weight":
            values = _uniform(shape, 1.0, seed, index[name])
        elif name == "classifier.bias":
            values = np.zeros(shape, np.float32)
        else:
            kind = next(kind for kind in _CONSTANTS if name.endswith(kind))
            values = np.full(shape, _CONSTANTS[kind], np.float32)
        state[name] = values.astype(dtype)
    return state


def _uniform(shape: tuple[int, ...], gain: float, seed: int, index: int) -> np.ndarray:
    """Float32 values uniform in +-sqrt(gain / fan_in)."""
    bound = math.sqrt(gain / math.prod(shape[1:]))
    words = raw_words(seed, Stream.INIT, epoch=0, index=index, count=math.prod(shape))
    return ((2.0 * uniform64(words) - 1.0) * bound).astype(np.float32).reshape(shape)
