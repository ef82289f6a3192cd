"""Training: the batches every backend sees, and one loop over the protocol."""

from pymobilenet.training.batches import Batches
from pymobilenet.training.loop import Callback, History, StepRecord, fit
from pymobilenet.training.metrics import accuracy
from pymobilenet.training.schedules import rate_at

__all__ = ["Batches", "Callback", "History", "StepRecord", "accuracy", "fit", "rate_at"]
