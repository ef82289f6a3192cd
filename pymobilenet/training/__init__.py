"""Training: batches, learning-rate schedules, the training loop, and runs in folders."""

from pymobilenet.training.batches import Batches
from pymobilenet.training.loop import Callback, History, StepRecord, fit
from pymobilenet.training.metrics import accuracy
from pymobilenet.training.recipe import SHIPPED, Recipe, load_recipe
from pymobilenet.training.run import TrainingRun
from pymobilenet.training.schedules import rate_at
from pymobilenet.training.start import begin, resume

__all__ = [
    "SHIPPED",
    "Batches",
    "Callback",
    "History",
    "Recipe",
    "StepRecord",
    "TrainingRun",
    "accuracy",
    "begin",
    "fit",
    "load_recipe",
    "rate_at",
    "resume",
]
