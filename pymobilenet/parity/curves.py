"""Level 4, free runs: two training curves from one start, and the envelope they may differ by.

Two correct programs diverge because of rounding, at working rates exponentially. How fast is
measured by running one backend against itself: from weights moved by one unit in the last place,
each batch permuted and its images moved likewise. The envelope is the running maximum of the
relative differences of the loss in these runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pymobilenet.backends.base import Model
from pymobilenet.backends.batch import Batch
from pymobilenet.parity.floors import (
    IMAGES_INDEX,
    draw_order,
    min_floor,
    move_parameters,
    move_ulps,
    permute,
    widen,
)
from pymobilenet.parity.judge import Divergence
from pymobilenet.parity.observe import activations_by_micro_batch, masks_of_activations
from pymobilenet.parity.tolerances import (
    DRAWS,
    FIRST_DRAWS,
    MAX_ENVELOPE,
    MAX_FLIPPED_FRACTION,
    USUAL_RATIO,
)
from pymobilenet.training import Batches, rate_at
from pymobilenet.weights import State


@dataclass(frozen=True)
class Curves:
    """Two loss curves from one start, and the envelope of their difference.

    Attributes:
        title: The name of the run.
        names: The two backends; the first gives the envelope.
        losses: The losses (steps,) of each.
        envelope: The relative difference (steps,) that rounding explains.
        flipped: The first step in which a few activation values of the two runs lie on other sides
            of a kink; None if there is none. From there the two runs differentiate different
            functions, and steps are not compared.
        culprit: The backend that is off, by `arbiter.arbitrate_curves`; without it, the second.
    """

    title: str
    names: tuple[str, str]
    losses: tuple[np.ndarray, np.ndarray]
    envelope: np.ndarray
    flipped: int | None = None
    culprit: str | None = None

    @property
    def difference(self) -> np.ndarray:
        """The relative difference of the losses (steps,)."""
        return relative(self.losses[1], self.losses[0])

    @property
    def compared_steps(self) -> int:
        """How many steps come before the first flip, and before the envelope saturates."""
        beyond = np.flatnonzero(self.envelope > MAX_ENVELOPE)
        saturated = int(beyond[0]) if beyond.size else len(self.envelope)
        return saturated if self.flipped is None else min(saturated, self.flipped)

    @property
    def ratio(self) -> float:
        """The largest difference in envelopes, over the compared steps."""
        ratios = np.zeros_like(self.envelope)
        np.divide(self.difference, self.envelope, out=ratios, where=self._is_compared)
        return float(ratios.max(initial=0.0))

    @property
    def largest_difference(self) -> float:
        """The largest relative difference over the compared steps."""
        return float(np.max(self.difference, where=self._is_compared, initial=0.0))

    @property
    def _is_compared(self) -> np.ndarray:
        return np.arange(len(self.envelope)) < self.compared_steps

    @property
    def outside(self) -> np.ndarray:
        """The steps (steps,) that fail, as booleans.

        A compared step fails outside `USUAL_RATIO` envelopes, and any step with a loss that is not
        finite.
        """
        beyond = self._is_compared & ~(self.difference <= USUAL_RATIO * self.envelope)
        return beyond | ~np.isfinite(self.losses).all(axis=0)

    @property
    def passed(self) -> bool:
        """Whether at least one step was compared, and none fails."""
        return self.compared_steps > 0 and not self.outside.any()

    @property
    def divergence(self) -> Divergence | None:
        """The first step that fails; None if the curves passed."""
        if self.passed:
            return None
        step, off = int(np.argmax(self.outside)), self.culprit or self.names[1]
        error, floor = float(self.difference[step]), float(self.envelope[step])
        return Divergence(self.title, 4, "curve", "loss", "loss", step, off, error, floor)


def relative(losses: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the relative difference at each step; infinity where either loss is not finite.

    Args:
        losses: The losses (steps,) of one run.
        reference: The losses (steps,) of the other.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(losses - reference) / np.abs(reference)
    return np.where(np.isfinite(difference), difference, np.inf)


def free_losses(
    model: Model,
    start: State,
    batches: Batches,
    steps: int,
    draw: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Train `model` for some steps and return the losses.

    Args:
        model: A model of any backend.
        start: The state to start from.
        batches: The batches and the training configuration.
        steps: How many steps to take.
        draw: The number of a draw that perturbs the start and every batch; None for no draw.
        advance: Is called after each step.

    Returns:
        The losses (steps,), float64.
    """

    def run() -> Iterator[float]:
        for step in range(steps):
            images, labels, masks = batches.at(step)
            if draw is not None:
                order = draw_order(draw, step, len(images), batches.train.accumulate)
                images = move_ulps(images[order], draw, IMAGES_INDEX + step)
                labels, masks = labels[order], permute(masks, order)
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
    """Train two models from one start and compare their losses.

    The follower may be the less exact program. So before a curve counts as outside, perturbed runs
    of the follower widen the envelope, by at most `tolerances.MAX_WIDENING` times.

    Args:
        title: The name of the run.
        names: The names of the two models.
        models: The leader, whose perturbed runs give the envelope, and the follower.
        start: The state that both start from.
        batches: The batches and the training configuration.
        steps: How many steps to take.
        advance: Is called after each step of a model.

    Returns:
        Both curves, the envelope and the verdict.
    """
    leader_losses, follower_losses, flipped = pair_losses(models, start, batches, steps, advance)
    leader, follower = models
    losses = (leader_losses, follower_losses)
    curves = with_envelope(title, names, losses, leader, start, batches, flipped, advance)
    if curves.passed:
        return curves
    other = envelope(follower, start, batches, follower_losses, range(DRAWS))
    return replace(curves, envelope=widen(curves.envelope, other))


def with_envelope(
    title: str,
    names: tuple[str, str],
    losses: tuple[np.ndarray, np.ndarray],
    leader: Model,
    start: State,
    batches: Batches,
    flipped: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Curves:
    """Return two curves with the leader's envelope.

    The envelope is that of `FIRST_DRAWS` draws if the curves pass by it, else that of `DRAWS`,
    which is never smaller. For the arguments see `Curves` and `free_curves`.
    """
    first = envelope(leader, start, batches, losses[0], range(FIRST_DRAWS), advance)
    curves = Curves(title, names, losses, first, flipped)
    if curves.passed:
        return curves
    more = envelope(leader, start, batches, losses[0], range(FIRST_DRAWS, DRAWS))
    return replace(curves, envelope=np.maximum(first, more))


def pair_losses(
    models: tuple[Model, Model],
    start: State,
    batches: Batches,
    steps: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray, int | None]:
    """Train two models from `start` on the same batches.

    Args:
        models: The leader and the follower.
        start: The state that both start from.
        batches: The batches and the training configuration.
        steps: How many steps to take.
        advance: Is called after each step of a model.

    Returns:
        The losses (steps,) of each, and the step of the first few flips: None where no mask ever
        differs, or where more values than `MAX_FLIPPED_FRACTION` differ at once, which is a fault.
    """
    losses = np.empty((2, steps))
    first_flips: tuple[int, float] | None = None
    for model in models:
        model.set_state(start)
        model.set_optimizer(batches.train)
    for step in range(steps):
        images, labels, masks = batches.at(step)
        if first_flips is None:
            batch = Batch(images, labels, {})
            fraction = _flipped_fraction(models, batch, batches.train.accumulate)
            first_flips = (step, fraction) if fraction else None
        rate = rate_at(batches.train, step)
        for model, row in zip(models, losses, strict=True):
            row[step] = model.step(images, labels, rate, masks)[0]
            advance()
    is_rounding = first_flips is not None and first_flips[1] <= MAX_FLIPPED_FRACTION
    return losses[0], losses[1], first_flips[0] if first_flips and is_rounding else None


def _flipped_fraction(models: tuple[Model, Model], batch: Batch, micro_batches: int) -> float:
    """Return the fraction of activation values on different sides of a kink in two models."""
    first, second = (
        masks_of_activations(
            activations_by_micro_batch(model, batch, micro_batches), model.config.activation
        )
        for model in models
    )
    flipped = sum(int((mask != second[name]).sum()) for name, mask in first.items())
    return flipped / sum(mask.size for mask in first.values())


def envelope(
    model: Model,
    start: State,
    batches: Batches,
    losses: np.ndarray,
    draws: Sequence[int],
    advance: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Measure how far perturbed runs of a model are from its own losses.

    Args:
        model: The model that gave `losses`.
        start: The state it started from.
        batches: The batches and the training configuration.
        losses: The losses (steps,) of the unperturbed run.
        draws: The numbers of the draws, one run for each.
        advance: Is called after each step.

    Returns:
        The running maximum (steps,) of the relative differences, at least `floors.min_floor`.
    """
    differences: Sequence[np.ndarray] = [
        relative(free_losses(model, start, batches, len(losses), draw, advance), losses)
        for draw in draws
    ]
    largest = np.maximum(np.max(differences, axis=0), min_floor(model.dtype))
    return np.maximum.accumulate(largest)
