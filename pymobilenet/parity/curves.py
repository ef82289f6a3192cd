"""Level 4, free runs: two training curves from one start, and the envelope they may differ by.

Two correct programs drift apart, at working rates exponentially. How fast is measured by running
one backend against itself: from weights moved by one unit in the last place, each batch permuted
and its images moved likewise. The envelope is the running maximum of what that does to the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.parity.floors import (
    DRAWS,
    FIRST_DRAWS,
    draw_order,
    least,
    move_parameters,
    move_ulps,
    permuted,
    widened,
)
from pymobilenet.parity.judge import MOST_WITHIN, Divergence
from pymobilenet.parity.observe import activations_of_micro_batches, masks_of
from pymobilenet.training import Batches, rate_at
from pymobilenet.weights import State

SATURATED = 1e-3
"""Beyond this relative difference the envelope is the size of what it should bound: the two curves
are then two runs of one experiment, and only statistics over seeds could compare them."""

FEW = 1e-5
"""The part of all activation values that may lie on the other side of a kink in the first step in
which any does. In a correct run the first flips come singly (1 of 13.6 million where measured, then
6,686, then 2.4 million); a wrong rate or batch flips thousands at once."""


@dataclass(frozen=True)
class Curves:
    """Two loss curves (steps,), their relative difference, and the envelope at each step.

    `flipped` is the first step in which a few activation values lie on the other side of a kink;
    from there the two runs differentiate different functions, and the difference jumps.
    """

    title: str
    names: tuple[str, str]
    losses: tuple[np.ndarray, np.ndarray]
    envelope: np.ndarray
    flipped: int | None = None

    @property
    def difference(self) -> np.ndarray:
        return relative(self.losses[1], self.losses[0])

    @property
    def judged(self) -> int:
        """How many steps come before the first flip, and before the envelope saturates."""
        beyond = np.flatnonzero(self.envelope > SATURATED)
        saturated = int(beyond[0]) if beyond.size else len(self.envelope)
        return saturated if self.flipped is None else min(saturated, self.flipped)

    @property
    def ratio(self) -> float:
        """The largest difference in envelopes, over the judged steps."""
        ratios = np.zeros_like(self.envelope)
        np.divide(self.difference, self.envelope, out=ratios, where=self._judged)
        return float(ratios.max(initial=0.0))

    @property
    def largest_difference(self) -> float:
        """The largest difference over the judged steps."""
        return float(np.max(self.difference, where=self._judged, initial=0.0))

    @property
    def _judged(self) -> np.ndarray:
        return np.arange(len(self.envelope)) < self.judged

    @property
    def outside(self) -> np.ndarray:
        """The steps that fail: judged and outside 10 envelopes, or a loss that is not finite."""
        beyond = self._judged & ~(self.difference <= MOST_WITHIN * self.envelope)
        return beyond | ~np.isfinite(self.losses).all(axis=0)

    @property
    def passed(self) -> bool:
        return self.judged > 0 and not self.outside.any()

    @property
    def divergence(self) -> Divergence | None:
        if self.passed:
            return None
        step = int(np.argmax(self.outside))
        error, floor = float(self.difference[step]), float(self.envelope[step])
        return Divergence(self.title, 4, "curve", "loss", "loss", step, self.names[1], error, floor)


def relative(losses: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Relative difference at each step; infinite where either is not finite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.abs(losses - reference) / np.abs(reference)
    return np.where(np.isfinite(off), off, np.inf)


def free_losses(
    model: Model,
    start: State,
    batches: Batches,
    steps: int,
    draw: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """The losses (steps,) of a run from `start`; with `draw`, of its perturbed replica."""

    def run() -> Iterator[float]:
        for step in range(steps):
            images, labels, masks = batches.at(step)
            if draw is not None:
                order = draw_order(draw, step, len(images), batches.train.accumulate)
                images = move_ulps(images[order], draw, 1000 + step)
                labels, masks = labels[order], permuted(masks, order)
            yield model.step(images, labels, rate_at(batches.train, step), masks)[0]
            advance()

    model.set_state(start if draw is None else move_parameters(start, draw))
    model.set_optimizer(batches.train)
    return np.array(list(run()))


def free_curves(
    title: str,
    names: tuple[str, str],
    models: tuple[Model, Model],
    start: State,
    batches: Batches,
    steps: int,
    advance: Callable[[], None] = lambda: None,
) -> Curves:
    """The curves of two models from `start`, the first of which leads and gives the envelope.

    The less exact program may be the one that follows: before a curve counts as outside, the
    follower's own perturbed runs widen the envelope, within bounds (see `floors.WIDEST`).
    """
    mine, theirs, flip = pair_losses(models, start, batches, steps, advance)
    leader, follower = models
    curves = enveloped(title, names, (mine, theirs), leader, start, batches, flip, advance)
    if curves.passed:
        return curves
    around = envelope(follower, start, batches, theirs, range(DRAWS))
    return replace(curves, envelope=widened(curves.envelope, around))


def enveloped(
    title: str,
    names: tuple[str, str],
    losses: tuple[np.ndarray, np.ndarray],
    leader: Model,
    start: State,
    batches: Batches,
    flipped: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Curves:
    """Two curves with the envelope of `FIRST_DRAWS` draws if they pass by it, else of `DRAWS`: more
    draws only widen it."""
    around = envelope(leader, start, batches, losses[0], range(FIRST_DRAWS), advance)
    curves = Curves(title, names, losses, around, flipped)
    if curves.passed:
        return curves
    more = envelope(leader, start, batches, losses[0], range(FIRST_DRAWS, DRAWS))
    return replace(curves, envelope=np.maximum(around, more))


def pair_losses(
    models: tuple[Model, Model],
    start: State,
    batches: Batches,
    steps: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray, int | None]:
    """The losses (steps,) of two runs from `start`, and the step of their first few flips.

    None where no mask ever differs, and where so many do at once that it is no accident (`FEW`).
    """
    losses = np.empty((2, steps))
    flips: list[tuple[int, float]] = []
    for model in models:
        model.set_state(start)
        model.set_optimizer(batches.train)
    for step in range(steps):
        images, labels, masks = batches.at(step)
        if not flips:
            batch = Batch(images, labels, {})
            part = _flipped_fraction(models, batch, batches.train.accumulate)
            flips += [(step, part)] if part else []
        rate = rate_at(batches.train, step)
        for model, row in zip(models, losses, strict=True):
            row[step] = model.step(images, labels, rate, masks)[0]
            advance()
    first = flips[0][0] if flips and flips[0][1] <= FEW else None
    return losses[0], losses[1], first


def _flipped_fraction(models: tuple[Model, Model], batch: Batch, parts: int) -> float:
    """The part of all activation values that are on different sides of a kink in two models."""
    mine, theirs = (
        masks_of(activations_of_micro_batches(model, batch, parts), model.config.activation)
        for model in models
    )
    flipped = sum(int((mask != theirs[name]).sum()) for name, mask in mine.items())
    return flipped / sum(mask.size for mask in mine.values())


def envelope(
    model: Model,
    start: State,
    batches: Batches,
    losses: np.ndarray,
    draws: Sequence[int],
    advance: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """The running maximum of how far perturbed runs of `model` are from its `losses`."""
    runs: Sequence[np.ndarray] = [
        relative(free_losses(model, start, batches, len(losses), draw, advance), losses)
        for draw in draws
    ]
    largest = np.maximum(np.max(runs, axis=0), least(model.dtype))
    return np.maximum.accumulate(largest)
