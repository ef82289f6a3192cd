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


class UnflippedKernel(Wrapper):
    """A stock `Flux.Conv` with torch's weights: it flips its kernels, torch does not.

    Only outputs show it: weights, gradients and moments are flipped both ways.
    """

    def get_state(self):
        return _flipped(super().get_state())

    def _set_state(self, state):
        super()._set_state(_flipped(state))

    def _loss_and_grads(self, images, labels, masks):
        loss, grads = super()._loss_and_grads(images, labels, masks)
        return loss, _flipped(grads)

    def _step(self, images, labels, rate, masks):
        loss, grads = super()._step(images, labels, rate, masks)
        return loss, _flipped(grads)


def _flipped(tensors):
    """Both spatial axes of every convolution weight, gradient and moment reversed."""
    return {
        name: tensor[..., ::-1, ::-1].copy() if tensor.ndim == 4 else tensor
        for name, tensor in tensors.items()
    }


class BiasedVariance(Wrapper):
    """Running variances fed the biased variance, without Bessel's m/(m-1): the textbook formula."""

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
            biased = decayed + (after[name] - decayed) * (values - 1) / values
            after[name] = biased.astype(self.dtype)
        self.inner.set_state(after)
        return result


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


class OtherOptions(Wrapper):
    """An optimizer with other values of some options than requested."""

    def __init__(self, inner, **fields):
        super().__init__(inner)
        self.fields = fields

    def _reset_optimizer(self, config):
        super()._reset_optimizer(replace(config, **self.fields))


class ClippedOneByOne(OtherOptions):
    """SGD whose gradients are clipped each by its own norm, as Optimisers' `ClipNorm` does."""

    def __init__(self, inner):
        super().__init__(inner, clip_norm=0.0)

    def _step(self, images, labels, rate, masks):
        loss, grads = super()._step(images, labels, rate, masks)
        state = self.inner.get_state()
        for name, grad in grads.items():
            factor = min(self.optimizer.clip_norm / (float(np.linalg.norm(grad)) + 1e-6), 1.0)
            excess = (1.0 - factor) * np.asarray(grad)
            state[f"optimizer.momentum.{name}"] -= excess
            state[name] += rate * excess
        self.inner.set_state(state)
        return loss, grads


class SummedMicroBatches(Wrapper):
    """SGD with the sum of the micro-batches' gradients in place of their mean."""

    def _step(self, images, labels, rate, masks):
        loss, grads = super()._step(images, labels, rate, masks)
        state, count = self.inner.get_state(), self.optimizer.accumulate
        for name, grad in grads.items():
            excess = (count - 1) * np.asarray(grad)
            state[f"optimizer.momentum.{name}"] += excess
            state[name] -= rate * excess
        self.inner.set_state(state)
        return loss, {name: count * np.asarray(grad) for name, grad in grads.items()}


class StatisticsOfOneMicroBatch(Wrapper):
    """Running statistics updated by the last micro-batch of a step only."""

    def _step(self, images, labels, rate, masks):
        before = self.inner.get_state()
        result = super()._step(images, labels, rate, masks)
        after = self.inner.get_state()
        count = self.optimizer.accumulate
        last = Batch(images, labels, masks).micro_batch(count - 1, count)
        self.inner.set_optimizer(replace(self.optimizer, accumulate=1))
        self.inner.set_state(before)
        self.inner.step(last.images, last.labels, 0.0, last.masks)
        moved = {k: v for k, v in self.inner.get_state().items() if "running_" in k}
        self.inner.set_optimizer(self.optimizer)
        self.inner.set_state(after | moved)
        return result


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


def julia_fault(name):
    """The fault of the same name in a Julia V2: its block is replaced by a wrong one."""

    def plant(model, index):
        main = model.backend.main
        main.seval(f'include("{(HERE / "faults.jl").as_posix()}")')
        getattr(main.Faults, name)(model.model, index)
        return model

    return plant
