"""The comparisons of the `parity` command, with models instead of names of backends.

The oracle's results and those of correct torch models are computed once for all tests. `PLANTED` is
what is planted, and where levels 0 to 3 and lockstep have to see it begin.
"""

import functools
from typing import NamedTuple

import faults
import pytest

from pymobilenet import TrainConfig, backend
from pymobilenet.parity.arbiter import arbitrate_curves
from pymobilenet.parity.compare_scenario import compare_models, compare_programs
from pymobilenet.parity.curves import free_curves
from pymobilenet.parity.floors import program
from pymobilenet.parity.handover import hand_over
from pymobilenet.parity.lockstep import lockstep
from pymobilenet.parity.observe import observe
from pymobilenet.parity.reference import compute_reference
from pymobilenet.parity.report import ParityReport
from pymobilenet.parity.scenario import IMAGE_SIZE, Scenario, resized, start_state
from pymobilenet.training import Batches
from pymobilenet.weights import initial_state

SGD = TrainConfig(optimizer="sgd", rate=0.1, batch_size=15)
ADAM = TrainConfig(optimizer="adam", rate=1e-3, batch_size=15)
CALM = TrainConfig(optimizer="adam", rate=1e-4, batch_size=15)

FAULTY = ["torch", pytest.param("julia", marks=pytest.mark.julia)]
DTYPES = ("float64", "float32")
STEPS = 3


class Place(NamedTuple):
    level: int
    direction: str
    quantity: str
    name: str
    step: int | None = None


class Planted(NamedTuple):
    """A fault, and where levels 0 to 3 and lockstep see it begin."""

    plant: type | object
    levels: Place
    lockstep: Place


PLANTED = {
    "unflipped kernel": Planted(
        faults.UnflippedKernel,
        Place(1, "forward", "eval", "stem.conv"),
        Place(4, "forward", "train", "stem.conv", 0),
    ),
    "norm eps 1e-3": Planted(
        faults.keras_eps,
        Place(1, "forward", "eval", "stem.norm"),
        Place(4, "forward", "train", "stem.norm", 0),
    ),
    "biased variance": Planted(
        faults.BiasedVariance,
        Place(2, "update", "statistic", "stem.norm.running_var"),
        Place(4, "update", "statistic", "stem.norm.running_var", 0),
    ),
    "rate 1 % off": Planted(
        faults.RateOff,
        Place(3, "update", "sgd-parameter", "stem.conv.weight", 0),
        Place(4, "update", "parameter", "stem.conv.weight", 0),
    ),
    "shifted labels": Planted(
        faults.ShiftedLabels,
        Place(2, "forward", "loss", "loss"),
        Place(4, "forward", "loss", "loss", 0),
    ),
}
FLOAT32_EPS = Planted(
    faults.float32_eps,
    Place(1, "forward", "eval", "stem.norm"),
    Place(4, "forward", "train", "stem.norm", 0),
)
MISSING_BLOCK = Planted(
    lambda model: faults.missing_block(model, 7),
    Place(1, "forward", "eval", "blocks.7.depthwise.conv"),
    Place(4, "forward", "train", "blocks.7.depthwise.conv", 0),
)

by_fault = pytest.mark.parametrize("fault", PLANTED.values(), ids=PLANTED)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
by_backend = pytest.mark.parametrize("name", FAULTY)
by_optimizer = pytest.mark.parametrize("train", [SGD, ADAM], ids=lambda train: train.optimizer)


class Lab:
    """Runs the engine on models and gives its report."""

    def __init__(self, config, data, image_size=IMAGE_SIZE):
        self.config, self.data, self.image_size = config, data, image_size
        self.images = resized(data, image_size)
        self.reference = functools.cache(self._reference)
        self.torch = functools.cache(self._torch)

    def _reference(self, dtype):
        """The oracle's run of the scenario."""
        scenario = Scenario(self.config, dtype, image_size=self.image_size)
        return compute_reference(scenario, self.data)

    def _torch(self, dtype):
        """The observations of a correct torch model, and its program, which keeps its moves."""
        model, inputs = self.build("torch", dtype), self.reference(dtype).inputs
        observations = observe(model, inputs)
        return observations, program(model, inputs, observations)

    def build(self, name, dtype, **options):
        return backend(name).build(self.config, dtype=dtype, **options)

    def report(self):
        return ParityReport.of([backend("torch"), backend("numpy")], self.images, seed=0)

    def batches(self, train, dtype):
        return Batches(self.images, train, self.config, dtype)

    def levels(self, dtype, **models):
        """Levels 0 to 3 of two models; of a correct torch model, the leader, and of one."""
        report, reference = self.report(), self.reference(dtype)
        if len(models) == 2:
            report.scenarios.append(compare_models(reference, models))
            return report
        ((name, model),) = models.items()
        by_name = {"torch": self.torch(dtype)[0], name: observe(model, reference.inputs)}
        programs = [self.torch(dtype)[1], program(model, reference.inputs, by_name[name])]
        report.scenarios.append(compare_programs(reference, by_name, programs))
        return report

    def lockstep(self, train, leader, follower, *replicas, steps=STEPS):
        report = self.report()
        batches = self.batches(train, leader.dtype)
        leader.set_state(start_state(self.config, 0, leader.dtype.name))
        names = ("leader", "follower")
        report.lockstep.append(lockstep(leader, follower, replicas, batches, steps, names))
        return report

    def hand_over(self, train, leader, follower, *replicas):
        report = self.report()
        start = start_state(self.config, 0, leader.dtype.name)
        names = ("leader", "follower")
        report.handovers.append(
            hand_over(leader, follower, replicas, self.images, train, start, names)
        )
        return report

    def curves(self, train, leader, follower, steps):
        report = self.report()
        batches = self.batches(train, leader.dtype)
        start = initial_state(self.config, 0, leader.dtype)
        names, models = ("leader", "follower"), (leader, follower)
        curves = free_curves("free", names, models, start, batches, steps)
        report.curves.append(arbitrate_curves(curves, start, batches))
        return report


def assert_divergence(report, place, culprit=None):
    assert report.to_dict()["verdict"] == "differ"
    first = report.first_divergence
    assert Place(first.level, first.direction, first.quantity, first.name, first.step) == place
    assert culprit is None or first.backend == culprit


def assert_agree(report):
    assert report.first_divergence is None
    assert report.to_dict()["verdict"] == "agree"
