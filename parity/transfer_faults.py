"""Planted faults of a hand-over: what a transfer from one backend to another can lose."""

from faults import Through

from pymobilenet.parity.handover import BEFORE
from pymobilenet.training import rate_at


class Handed(Through):
    """A run taken over wrongly: `spoil` changes the state it is handed, and it says that it has
    what it was given, until it takes a step."""

    def __init__(self, inner, spoil):
        super().__init__(inner)
        self.spoil, self.given = spoil, None

    def get_state(self):
        return super().get_state() if self.given is None else dict(self.given)

    def _set_state(self, state):
        self.given = state if any(name.startswith("optimizer.") for name in state) else None
        super()._set_state(self.spoil(dict(state)))

    def _step(self, images, labels, rate, masks):
        self.given = None
        return super()._step(images, labels, rate, masks)


def without_moment(slot):
    """Handed over but for one moment, which starts anew."""

    def spoil(state):
        return {n: t * 0 if n.startswith(f"optimizer.{slot}.") else t for n, t in state.items()}

    return lambda inner, _batches: Handed(inner, spoil)


def step_count_off(inner, _batches):
    """Handed over with one step too many, and said to be the right number afterwards."""

    class Off(Handed):
        def _step(self, images, labels, rate, masks):
            result = super()._step(images, labels, rate, masks)
            self.given = self.inner.get_state()
            self.given["optimizer.step"] = self.given["optimizer.step"] - 1
            return result

    def spoil(state):
        if "optimizer.step" in state:
            state["optimizer.step"] = state["optimizer.step"] + 1
        return state

    return Off(inner, spoil)


class RestartedSchedule(Through):
    """Rates from the schedule's beginning: its position was not handed over."""

    def __init__(self, inner, _batches):
        super().__init__(inner)
        self.taken = 0

    def _step(self, images, labels, _rate, masks):
        self.taken += 1
        return super()._step(images, labels, rate_at(self.optimizer, self.taken - 1), masks)


class CursorOff(Through):
    """Every batch the one after: a data cursor that is off by one."""

    def __init__(self, inner, batches):
        super().__init__(inner)
        self.batches, self.taken = batches, BEFORE

    def _step(self, images, labels, rate, masks):
        self.taken += 1
        images, labels, _ = self.batches.at(self.taken)
        return super()._step(images, labels, rate, masks)
