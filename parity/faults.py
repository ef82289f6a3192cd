"""Planted faults: models with one known error each, as a programmer might make.

Every fault but `missing_block` is a `Wrapper`: a model around any backend's model that changes what
goes in or comes out, and still reports the config that was requested.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch.nn.functional as F

from pymobilenet.architecture import layers
from pymobilenet.backends import backend
from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch

HERE = Path(__file__).parent


class Wrapper(Model):
    """A model around `inner` that changes nothing: it must pass every level."""

    def __init__(self, inner, config=None):
        super().__init__(config or inner.config, inner.dtype)
        self.backend, self.inner = inner.backend, inner

    def get_state(self):
        return self.inner.get_state()

    def _set_state(self, state):
        self.inner.set_state(state)

    def _predict(self, images):
        return self.inner.predict(images)

    def _activations(self, images, train, masks):
        return self.inner.activations(images, train, masks)

    def _loss_and_grads(self, images, labels, masks):
        return self.inner.loss_and_grads(images, labels, masks)

    def _step(self, images, labels, rate, masks):
        return self.inner.step(images, labels, rate, masks)

    def _reset_optimizer(self, config):
        self.inner.set_optimizer(config)


class OtherKernels(Wrapper):
    """The kernels of all convolutions changed by `change`, which undoes itself.

    Only outputs show it: weights, gradients and moments are changed both ways.
    """

    def change(self, kernels):
        """Return other kernels; each fault has its own change."""
        raise NotImplementedError

    def changed(self, tensors):
        return {
            name: np.ascontiguousarray(self.change(tensor)) if tensor.ndim == 4 else tensor
            for name, tensor in tensors.items()
        }

    def get_state(self):
        return self.changed(super().get_state())

    def _set_state(self, state):
        super()._set_state(self.changed(state))

    def _loss_and_grads(self, images, labels, masks):
        loss, grads = super()._loss_and_grads(images, labels, masks)
        return loss, self.changed(grads)

    def _step(self, images, labels, rate, masks):
        loss, grads = super()._step(images, labels, rate, masks)
        return loss, self.changed(grads)


class UnflippedKernel(OtherKernels):
    """A stock `Flux.Conv` with torch's weights: it flips its kernels, torch does not."""

    def change(self, kernels):
        return kernels[..., ::-1, ::-1]


class TransposedKernel(OtherKernels):
    """Height and width of the kernels swapped."""

    def change(self, kernels):
        return kernels.swapaxes(2, 3)


class OtherVariance(Wrapper):
    """Running variances updated by the biased variance times another factor than m/(m-1)."""

    def factor(self, images, rows, columns):
        """Return the factor for maps of this size; each fault has its own."""
        raise NotImplementedError

    def _step(self, images, labels, rate, masks):
        before = self.inner.get_state()
        result = super()._step(images, labels, rate, masks)
        after = self.inner.get_state()
        count, (rows, columns) = len(images), images.shape[2:]
        for layer in layers(self.config):
            rows, columns = layer.output_size(rows), layer.output_size(columns)
            values = count * rows * columns
            name = f"{layer.name}.norm.running_var"
            decayed = (1 - self.config.norm_momentum) * before[name].astype(np.float64)
            biased = (after[name] - decayed) * (values - 1) / values
            other = decayed + biased * self.factor(count, rows, columns)
            after[name] = other.astype(self.dtype)
        self.inner.set_state(after)
        return result


class BiasedVariance(OtherVariance):
    """Without Bessel's m/(m-1): the textbook formula."""

    def factor(self, images, rows, columns):  # noqa: ARG002
        return 1.0


class VarianceOfSquareMaps(OtherVariance):
    """With m of square maps: the width is taken for the height."""

    def factor(self, images, rows, columns):  # noqa: ARG002
        return (images * columns**2) / (images * columns**2 - 1)


class LessExact(Wrapper):
    """Activations `factor` times as far from the oracle: a mean that loses two bits."""

    def __init__(self, inner, factor):
        super().__init__(inner)
        self.factor = factor

    def _activations(self, images, train, masks):
        values = super()._activations(images, train, masks)
        state = {name: tensor.astype(np.float64) for name, tensor in self.get_state().items()}
        oracle = backend("numpy").from_state(self.config, state)
        images, _, masks = Batch(images, images, masks).astype(np.float64)
        exact = oracle.activations(images, train, masks)
        return {
            name: (exact[name] + self.factor * (value - exact[name])).astype(self.dtype)
            for name, value in values.items()
        }


class SwappedBatches(Wrapper):
    """At step `first` the batch of the next step, and then that of `first`: a race in a loader."""

    def __init__(self, inner, batches, first):
        super().__init__(inner)
        self.batches, self.first, self.taken = batches, first, 0

    def _step(self, images, labels, rate, masks):
        other = {self.first: self.first + 1, self.first + 1: self.first}.get(self.taken)
        self.taken += 1
        if other is not None:
            images, labels, _ = self.batches.at(other)
        return super()._step(images, labels, rate, masks)


class OtherBias(Wrapper):
    """A classifier bias that is 0.1 too large for one class: only logits and losses show it."""

    def __init__(self, inner):
        super().__init__(inner)
        self.inner.set_state(_moved_bias(self.inner.get_state()))

    def _set_state(self, state):
        super()._set_state(_moved_bias(state))


def _moved_bias(state):
    bias = state["classifier.bias"].copy()
    bias[0] += 0.1
    return {**state, "classifier.bias": bias}


class RateOff(Wrapper):
    """A rate that is 1 % too large: a schedule that is one step ahead."""

    def _step(self, images, labels, rate, masks):
        return super()._step(images, labels, 1.01 * rate, masks)


class StaleMomentum(Wrapper):
    """Moments of a new state are ignored: the optimizer continues with its own."""

    def _set_state(self, state):
        moments = {k: v for k, v in self.inner.get_state().items() if k.startswith("optimizer.")}
        super()._set_state({name: moments.get(name, tensor) for name, tensor in state.items()})


class ShiftedLabels(Wrapper):
    """Each image with its neighbour's label: an index off by one.

    Its results depend on the order of the images, so that its floors are large. As the leader it
    must not pass because of them.
    """

    def _loss_and_grads(self, images, labels, masks):
        return super()._loss_and_grads(images, np.roll(labels, 1, axis=0), masks)

    def _step(self, images, labels, rate, masks):
        return super()._step(images, np.roll(labels, 1, axis=0), rate, masks)


def keras_eps(model):
    """Norms with Keras's eps of 1e-3 in place of torch's and Flux's 1e-5."""
    return _with_eps(model, 1e-3)


def float32_eps(model):
    """Norms with the Float32 literal 1f-5 in a float64 model, as `Flux.f64` leaves it."""
    return _with_eps(model, float(np.float32(1e-5)))


def _with_eps(model, eps):
    config = replace(model.config, norm_eps=eps)
    return Wrapper(model.backend.from_state(config, model.get_state()), model.config)


def missing_block(model, index):
    """A torch model without block `index`: a count of repeats that is one too low.

    The block's parameters stay in the state, where their gradients are zero.
    """
    block = model.module.blocks[index]
    block.forward = lambda x: x + 0 * sum(parameter.sum() for parameter in block.parameters())
    return model


def misplaced_residual(model, index):
    """A torch V2 whose block `index` adds what went into the block before it."""
    before, block = model.module.blocks[index - 1], model.module.blocks[index]
    before.register_forward_pre_hook(lambda _block, args: setattr(before, "entered", args[0]))
    *units, add = block.children()

    def forward(x):
        for unit in units:
            x = unit(x)
        return add(before.entered, x)

    block.forward = forward
    return model


def missing_residual(model, index):
    """A torch V2 whose block `index` adds nothing."""
    model.module.blocks[index].add.forward = lambda _x, y: y
    return model


def activated_bottleneck(model, index):
    """A torch V2 whose block `index` is not linear at its end."""
    norm = model.module.blocks[index].project.norm
    norm.register_forward_hook(lambda _norm, _args, y: F.relu6(y))
    return model


def unclipped_unit(model, block, unit):
    """A torch model with ReLU in place of ReLU6 in one unit."""
    getattr(model.module.blocks[block], unit).act.function = F.relu
    return model


def mean_over_squares(model):
    """A torch model whose global mean takes the width for the height."""
    model.module.pool.forward = lambda x: x.sum((2, 3)) / x.shape[3] ** 2
    return model


def julia_faults(backend):
    """The Julia module of faults.jl."""
    if not backend.main.seval("isdefined(Main, :Faults)"):
        backend.main.seval(f'include("{(HERE / "faults.jl").as_posix()}")')
    return backend.main.Faults


def julia_fault(name):
    """The fault of the same name in a Julia model: one of its units is replaced by a wrong one."""

    def plant(model, *place):
        getattr(julia_faults(model.backend), name)(model.model, *place)
        return model

    return plant
