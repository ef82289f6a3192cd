"""The least time that a processor can take for a net: the roofline model, layer by layer.

A kernel takes at least the time for its floating-point operations at the peak of matrix products,
and at least that for its bytes at the bandwidth of the triad. Its limit is the larger of the two;
the limit of a call is the sum over its kernels.

What is counted, in float32:

- A kernel reads each of its inputs and weights once and writes each of its outputs once.
- Inference: a convolution has its norm folded into weight and bias, and its activation and the
  addition of a residual are part of it: only the block's input is read in addition. The head
  (pooling and classifier) is one kernel, which reads the last map and writes the logits.
- Training: each convolution is three kernels, forward, gradient of its input and gradient of its
  weight; the stem has no gradient of its input. A norm with its activation is two: forward, which
  reads the convolution's output and writes the activation, its statistics being part of the
  convolution; and backward, which reads the convolution's output and the gradient and writes a
  gradient. The addition of a residual is part of the norm forward. The head is one forward and one
  backward. The sum of the two gradients of a block's input is not counted.
- Adam reads parameter, gradient and two moments, and writes parameter and moments.
- A multiply-add is two operations. Norms and Adam have `NORM_OPERATIONS` and `ADAM_OPERATIONS`.

Data that are still in a cache need not come from memory: where those of a call fit, a program can
be faster than its limit. One that merges kernels can, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pymobilenet.architecture import Layer, feature_channels, last_map_size, layers, num_params
from pymobilenet.bench.peak import Peaks
from pymobilenet.config import MobileNetConfig

if TYPE_CHECKING:
    from pymobilenet.bench.measure import Case

KINDS = ("stem", "depthwise", "pointwise", "norm", "head", "optimizer")
"""Kinds of kernels. Every 1x1 convolution is ``pointwise``, also V2's last one; ``norm`` includes
the activation, where they are not part of a convolution; ``head`` is pooling and classifier."""

FLOAT = 4
"""Bytes of a value."""

NORM_OPERATIONS = {"forward": 6, "backward": 10}
"""For each value. Forward: sum and sum of squares (3), scale and shift (2), activation (1)."""

ADAM_OPERATIONS = 12
"""For each parameter: two moments (3 + 4), root, eps, division, rate and subtraction."""


class Kernel(NamedTuple):
    """A part of the computation that reads its inputs from memory and writes its outputs there.

    Attributes:
        name: The layer, and in training the pass: ``stem.conv forward``.
        kind: One of `KINDS`.
        operations: Floating-point operations.
        bytes: Read and written.
    """

    name: str
    kind: str
    operations: float
    bytes: float

    def limit(self, peaks: Peaks) -> float:
        """Return the least time in seconds."""
        return max(self._seconds(peaks))

    def bound(self, peaks: Peaks) -> str:
        """Return what limits the kernel: compute or memory."""
        compute, memory = self._seconds(peaks)
        return "compute" if compute > memory else "memory"

    def _seconds(self, peaks: Peaks) -> tuple[float, float]:
        moved = peaks.bandwidth.gbytes_per_second
        return self.operations / peaks.gflops / 1e9, self.bytes / moved / 1e9


@dataclass(frozen=True)
class KindLimit:
    """The kernels of one kind together.

    Attributes:
        kind: One of `KINDS`.
        operations: Floating-point operations.
        bytes: Read and written.
        bound: What limits them: compute, memory, or both, some kernels by one each.
        seconds: The sum of their limits.
    """

    kind: str
    operations: float
    bytes: float
    bound: str
    seconds: float


def kind_of(layer: Layer) -> str:
    """Return the kind of a layer's convolution.

    Args:
        layer: The layer.
    """
    if layer.name == "stem":
        return "stem"
    return "pointwise" if layer.kernel == 1 else "depthwise"


def kernels(case: Case) -> list[Kernel]:
    """Return the kernels of one call, by the rules of this module.

    Args:
        case: The net, the batch size and the job.
    """
    config, count, is_training = case.config, case.batch_size, case.job == "train"
    result: list[Kernel] = []
    size = config.resolution
    for layer in layers(config):
        rows = layer.output_size(size)
        inputs, outputs = layer.in_channels * size**2, layer.out_channels * rows**2
        of_layer = _trained if is_training else _folded
        result += of_layer(layer, count * inputs, count * outputs)
        size = rows
    result += _head(config, count, is_training)
    if is_training:
        params = num_params(config)
        result.append(Kernel("Adam", "optimizer", ADAM_OPERATIONS * params, 7 * FLOAT * params))
    return result


def _folded(layer: Layer, inputs: int, outputs: int) -> Iterator[Kernel]:
    """The kernel of a layer in inference, from the numbers of values of its input and output."""
    weights = math.prod(layer.weight_shape) + layer.out_channels
    moved = inputs + weights + outputs + (outputs if layer.residual else 0)
    yield Kernel(f"{layer.name}.conv", kind_of(layer), _operations(layer, outputs), FLOAT * moved)


def _trained(layer: Layer, inputs: int, outputs: int) -> Iterator[Kernel]:
    """The kernels of a layer in training, from the numbers of values of its input and output."""
    passes = ("forward", "input gradient", "weight gradient")
    moved = FLOAT * (inputs + math.prod(layer.weight_shape) + outputs)
    for each in passes:
        if layer.name != "stem" or each != "input gradient":
            name = f"{layer.name}.conv {each}"
            yield Kernel(name, kind_of(layer), _operations(layer, outputs), moved)
    arrays = {"forward": 3 if layer.residual else 2, "backward": 3}
    for each, operations in NORM_OPERATIONS.items():
        moved = FLOAT * (arrays[each] * outputs + 2 * layer.out_channels)
        yield Kernel(f"{layer.name}.norm {each}", "norm", operations * outputs, moved)


def _operations(layer: Layer, outputs: int) -> float:
    return 2.0 * outputs * math.prod(layer.weight_shape[1:])


def _head(config: MobileNetConfig, count: int, is_training: bool) -> Iterator[Kernel]:
    rows, columns = last_map_size(config, config.resolution, config.resolution)
    channels, classes = feature_channels(config), config.num_classes
    values, logits = count * channels * rows * columns, count * classes
    weights, product = (channels + 1) * classes, 2.0 * count * channels * classes
    moved = FLOAT * (values + weights + logits)
    yield Kernel("head forward", "head", values + product, moved)
    if is_training:
        moved = FLOAT * (values + 2 * weights + logits + count * channels)
        yield Kernel("head backward", "head", values + 2 * product, moved)


def kind_limits(kernels: Sequence[Kernel], peaks: Peaks) -> list[KindLimit]:
    """Return the limit of each kind of kernels that there is.

    Args:
        kernels: Of a call.
        peaks: Of the machine.

    Returns:
        In the order of `KINDS`. The sum of their seconds is the limit of the call.
    """
    result = []
    for kind in KINDS:
        if chosen := [kernel for kernel in kernels if kernel.kind == kind]:
            bounds = {kernel.bound(peaks) for kernel in chosen}
            operations, moved = (sum(each) for each in zip(*[k[2:] for k in chosen], strict=True))
            bound = bounds.pop() if len(bounds) == 1 else "both"
            seconds = sum(kernel.limit(peaks) for kernel in chosen)
            result.append(KindLimit(kind, operations, moved, bound, seconds))
    return result
