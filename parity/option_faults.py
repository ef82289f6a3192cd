"""Planted faults in what an option of the model or of the training does; see faults.py.

Each is a `Wrapper`, for a model of any backend.
"""

from dataclasses import replace

import numpy as np
from faults import Wrapper

from pymobilenet.backends.batch import Batch
from pymobilenet.backends.checks import DROPOUT


class WithoutSoftmax(Wrapper):
    """Predictions that are logits, though the config has a softmax."""

    def _predict(self, images):
        return self.inner.replica(softmax=False).predict(images)


class SoftmaxTwice(Wrapper):
    """Predictions that went through the softmax twice."""

    def _predict(self, images):
        exponentials = np.exp(super()._predict(images))
        return exponentials / exponentials.sum(1, keepdims=True)


class OtherDropout(Wrapper):
    """Dropout with `change` applied to its factors; None leaves all features as they are."""

    def __init__(self, inner, change):
        super().__init__(inner)
        self.change = change

    def changed(self, masks):
        if DROPOUT not in masks:
            return masks
        factors = self.change(masks[DROPOUT])
        others = {name: mask for name, mask in masks.items() if name != DROPOUT}
        return others if factors is None else {**others, DROPOUT: factors}

    def _activations(self, images, train, masks):
        return super()._activations(images, train, self.changed(masks))

    def _loss_and_grads(self, images, labels, masks):
        return super()._loss_and_grads(images, labels, self.changed(masks))

    def _step(self, images, labels, rate, masks):
        return super()._step(images, labels, rate, self.changed(masks))


def without_dropout(model):
    """A model that drops no feature."""
    return OtherDropout(model, lambda _: None)


def unscaled_dropout(model):
    """A model that drops features, and does not scale the others by 1/(1-p)."""
    return OtherDropout(model, np.sign)


class HardLabels(Wrapper):
    """The most likely class of each label, which label smoothing does not change."""

    def hard(self, labels):
        return labels if labels.ndim == 1 else labels.argmax(1)

    def _loss_and_grads(self, images, labels, masks):
        return super()._loss_and_grads(images, self.hard(labels), masks)

    def _step(self, images, labels, rate, masks):
        return super()._step(images, self.hard(labels), rate, masks)


class OtherFrozen(Wrapper):
    """A frozen model of another config: an option that folding forgets."""

    def __init__(self, inner, **fields):
        super().__init__(inner)
        self.fields = fields

    def _freeze(self):
        return self.inner.replica(**self.fields).freeze()


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
        if not self.optimizer.clip_norm:
            return loss, grads
        state = self.inner.get_state()
        for name, grad in grads.items():
            factor = min(self.optimizer.clip_norm / (float(np.linalg.norm(grad)) + 1e-6), 1.0)
            excess = (1.0 - factor) * np.asarray(grad)
            state[f"optimizer.momentum.{name}"] -= excess
            state[name] += rate * excess
        self.inner.set_state(state)
        return loss, grads


class SummedMicroBatches(Wrapper):
    """The sum of the micro-batches' gradients in place of their mean, for SGD and in the first
    moment of Adam."""

    def _step(self, images, labels, rate, masks):
        loss, grads = super()._step(images, labels, rate, masks)
        state, train = self.inner.get_state(), self.optimizer
        count = train.accumulate
        for name, grad in grads.items():
            excess = (count - 1) * np.asarray(grad)
            if train.optimizer == "sgd":
                state[f"optimizer.momentum.{name}"] += excess
                state[name] -= rate * excess
            else:
                state[f"optimizer.exp_avg.{name}"] += (1 - train.beta1) * excess
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
