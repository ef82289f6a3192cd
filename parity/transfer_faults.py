"""Planted faults of a hand-over: state that is lost between two backends."""

from faults import Wrapper

from pymobilenet.parity.handover import BEFORE
from pymobilenet.training import rate_at


class WrongTransfer(Wrapper):
    """A wrong transfer: `spoil` changes the state that the model receives.

    Until its next step the model reports the state it received.
    """

    def __init__(self, inner, spoil):
        super().__init__(inner)
        self.spoil, self.reported = spoil, None

    def get_state(self):
        return super().get_state() if self.reported is None else dict(self.reported)

    def _set_state(self, state):
        self.reported = state if any(name.startswith("optimizer.") for name in state) else None
        super()._set_state(self.spoil(dict(state)))

    def _step(self, images, labels, rate, masks):
        self.reported = None
        return super()._step(images, labels, rate, masks)


def without_moment(slot):
    """The moment of one slot is zero after the transfer."""

    def spoil(state):
        return {n: t * 0 if n.startswith(f"optimizer.{slot}.") else t for n, t in state.items()}

    return lambda inner, _batches: WrongTransfer(inner, spoil)


def step_count_off(inner, _batches):
    """The step count is one too high, but is reported as the right one afterwards."""

    class Off(WrongTransfer):
        def _step(self, images, labels, rate, masks):
            result = super()._step(images, labels, rate, masks)
            self.reported = self.inner.get_state()
            self.reported["optimizer.step"] = self.reported["optimizer.step"] - 1
            return result

    def spoil(state):
        if "optimizer.step" in state:
            state["optimizer.step"] = state["optimizer.step"] + 1
        return state

    return Off(inner, spoil)


class RestartedSchedule(Wrapper):
    """The schedule starts again: its position was not transferred."""

    def __init__(self, inner, _batches):
        super().__init__(inner)
        self.taken = 0

    def _step(self, images, labels, _rate, masks):
        self.taken += 1
        return super()._step(images, labels, rate_at(self.optimizer, self.taken - 1), masks)


class CursorOff(Wrapper):
    """Every batch is the next one: the position in the data is off by one."""

    def __init__(self, inner, batches):
        super().__init__(inner)
        self.batches, self.taken = batches, BEFORE

    def _step(self, images, labels, rate, masks):
        self.taken += 1
        images, labels, _ = self.batches.at(self.taken)
        return super()._step(images, labels, rate, masks)
