"""Optimizers are compared on the same gradients; what differs is located and diagnosed."""

import numpy as np
import pytest
import torch

from pymobilenet import TrainConfig
from pymobilenet.backends.optimizer_run import OptimizerForm, OptimizerRun, OptimizerSteps
from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff import compare_optimizers, torch_optimizer
from pymobilenet.parity.diff.optimizer_forms import compute_steps

INSIDE, EPS, CORRECTION = "rate inside the momentum", "eps inside the root", "bias correction"
DECAY, VECTORS = "coupled weight decay", "weight decay on norms and biases"
NESTEROV, CLIP = "form of Nesterov's momentum", "clipping of each gradient"
SCHEDULE, CONSTANTS = "schedule off by one", "constants of an optimizer"


def sgd(**options):
    return torch_optimizer(lambda p: torch.optim.SGD(p, lr=0.1, **options))


def adam(**options):
    return torch_optimizer(lambda p: torch.optim.Adam(p, lr=1e-3, **options))


def adamw(**options):
    return torch_optimizer(lambda p: torch.optim.AdamW(p, lr=1e-3, **options))


def rmsprop(**options):
    return torch_optimizer(lambda p: torch.optim.RMSprop(p, lr=1e-3, **options))


def scheduled(steps_before):
    """SGD with a schedule that is advanced a few times before the first step."""

    def build(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4], 0.5)
        for _ in range(steps_before):
            optimizer.step()  # without gradients, so that nothing is moved
            scheduler.step()
        return optimizer, scheduler

    return torch_optimizer(build)


class Formula(OptimizerRun):
    """An optimizer that computes a formula, and does not say which."""

    def __init__(self, form, rate):
        self.name, self._form, self._rate = "formula", form, rate

    def run(self, parameters, gradients, factors):
        rates = [self._rate * factor for factor in factors]
        steps = list(compute_steps(self._form, parameters, gradients, rates))
        dtype = next(iter(parameters.values())).dtype
        return OptimizerSteps([{n: v.astype(dtype) for n, v in s.items()} for s in steps], rates)


MOMENTUM = {"momentum": 0.9}
SAME = {
    "sgd": (sgd(**MOMENTUM), TrainConfig()),
    "nesterov": (sgd(nesterov=True, **MOMENTUM), TrainConfig(nesterov=True)),
    "decay": (
        sgd(weight_decay=0.01, **MOMENTUM),
        TrainConfig(weight_decay=0.01),
    ),
    "adam": (adam(), TrainConfig("adam", rate=1e-3)),
    "adamw": (adamw(weight_decay=0.1), TrainConfig("adamw", rate=1e-3, weight_decay=0.1)),
    "rmsprop": (rmsprop(momentum=0.9), TrainConfig("rmsprop", rate=1e-3)),
    "clipping": (
        torch_optimizer(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), clip_norm=1.0),
        TrainConfig(clip_norm=1.0),
    ),
    "schedule": (
        scheduled(0),
        TrainConfig(schedule="milestones", milestones=(2, 4), gamma=0.5),
    ),
}
DIFFERENT = {
    "Keras' SGD": (
        sgd(**MOMENTUM),
        Formula(OptimizerForm(momentum=0.9, is_rate_inside=True), 0.1),
        [INSIDE],
    ),
    "Optimisers' Nesterov": (
        sgd(nesterov=True, **MOMENTUM),
        Formula(OptimizerForm(momentum=0.9, nesterov="gradient", is_rate_inside=True), 0.1),
        [INSIDE],
    ),
    "no look-ahead": (TrainConfig(nesterov=True), sgd(**MOMENTUM), [NESTEROV]),
    "the other look-ahead": (
        sgd(nesterov=True, **MOMENTUM),
        Formula(OptimizerForm(momentum=0.9, nesterov="momentum"), 0.1),
        [NESTEROV],
    ),
    "TensorFlow's RMSprop": (
        TrainConfig("rmsprop", rate=1e-3, momentum=0, eps=1e-3),
        TrainConfig("rmsprop_tf", rate=1e-3, momentum=0, eps=1e-3),
        [EPS],
    ),
    "TensorFlow's RMSprop with momentum": (
        TrainConfig("rmsprop", rate=1e-3, eps=1e-3),
        TrainConfig("rmsprop_tf", rate=1e-3, eps=1e-3),
        [INSIDE, EPS],
    ),
    "TensorFlow's Adam": (
        adam(eps=1e-3),
        Formula(OptimizerForm("adam", eps=1e-3, eps_place="before"), 1e-3),
        [EPS],
    ),
    "BERT's Adam": (
        adam(),
        Formula(OptimizerForm("adam", corrects_bias=False), 1e-3),
        [CORRECTION],
    ),
    "Adam for AdamW": (adamw(weight_decay=0.1), adam(weight_decay=0.1), [DECAY]),
    "Optimisers' AdamW before 0.4": (
        adamw(weight_decay=0.1),
        Formula(OptimizerForm("adam", decay=0.1, decay_form="without rate"), 1e-3),
        [DECAY],
    ),
    "decay on weights only": (
        sgd(weight_decay=0.01, **MOMENTUM),
        TrainConfig(weight_decay=0.01, decay_all=False),
        [VECTORS],
    ),
    "Keras' clipnorm": (
        TrainConfig(clip_norm=1.0),
        Formula(OptimizerForm(momentum=0.9, clip_norm=1.0, clips_each=True, clip_eps=0.0), 0.1),
        [CLIP],
    ),
    "a schedule that is advanced first": (scheduled(0), scheduled(1), [SCHEDULE]),
    "a schedule that is late": (scheduled(1), scheduled(0), [SCHEDULE]),
    "Flux' alpha": (rmsprop(), rmsprop(alpha=0.9), [CONSTANTS]),
    "alpha of an unknown": (
        rmsprop(),
        Formula(OptimizerForm("rmsprop", alpha=0.9), 1e-3),
        [CONSTANTS],
    ),
    "another rate": (adam(), torch_optimizer(lambda p: torch.optim.Adam(p, lr=2e-3)), [CONSTANTS]),
    "several constants": (adam(), adam(betas=(0.8, 0.9), eps=1e-3), [CONSTANTS]),
    "decay and eps": (
        adamw(weight_decay=0.1, eps=1e-3),
        Formula(OptimizerForm("adam", eps=1e-3, eps_place="inside", decay=0.1), 1e-3),
        [EPS, DECAY],
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SAME)
def test_the_same_optimizer_agrees(name, dtype):
    report = compare_optimizers(*SAME[name], dtype=dtype)
    assert report.passed, str(report)
    assert not report.faults
    assert report.first_divergence is None
    assert "agree: 6 steps" in str(report)


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_is_caught_and_diagnosed(name):
    first, second, differences = DIFFERENT[name]
    report = compare_optimizers(first, second)
    assert not report.passed
    assert [fault.name for fault in report.faults] == differences, str(report)


@pytest.mark.parametrize("name", ["Keras' SGD", "BERT's Adam", "decay on weights only"])
def test_a_difference_is_diagnosed_in_float32_too(name):
    first, second, differences = DIFFERENT[name]
    report = compare_optimizers(first, second, dtype="float32")
    assert [fault.name for fault in report.faults] == differences, str(report)


@pytest.mark.parametrize(
    ("name", "step", "parameter"),
    [
        ("Keras' SGD", 2, "conv.weight"),  # the first step with another rate
        ("BERT's Adam", 0, "conv.weight"),
        ("decay on weights only", 0, "norm.weight"),
        ("a schedule that is advanced first", 1, "conv.weight"),
    ],
)
def test_the_first_step_and_parameter_that_differ_are_named(name, step, parameter):
    report = compare_optimizers(*DIFFERENT[name][:2])
    row = report.first_divergence
    assert (row.step, row.name) == (step, parameter)
    assert f"first divergence: step {step}, {parameter}, error" in str(report)


def test_what_no_formula_explains_is_said_to_differ():
    report = compare_optimizers(sgd(), torch_optimizer(lambda p: torch.optim.Adagrad(p, lr=0.1)))
    assert not report.passed
    assert not report.faults
    unknown = compare_optimizers(torch_optimizer(lambda p: torch.optim.Adagrad(p, lr=0.1)), sgd())
    assert not unknown.passed
    assert not unknown.faults


def test_an_optimizer_that_is_not_what_it_says_is_not_explained():
    liar = Formula(OptimizerForm(momentum=0.8), 0.1)
    liar.form = OptimizerForm(momentum=0.9)
    report = compare_optimizers(
        liar, Formula(OptimizerForm(momentum=0.9, is_rate_inside=True), 0.1)
    )
    assert not report.passed
    assert not report.faults


def test_forms_of_torch_are_those_that_torch_computes():
    """The formula that is read from an optimizer's options gives its steps."""
    rng = np.random.default_rng(0)
    parameters = {"w": rng.standard_normal((3, 4)), "b": rng.standard_normal(3)}
    gradients = [{n: rng.standard_normal(v.shape) for n, v in parameters.items()} for _ in range(5)]
    for run in (
        sgd(momentum=0.9, dampening=0.3, weight_decay=0.01),
        sgd(momentum=0.9, nesterov=True),
        adam(betas=(0.8, 0.95), weight_decay=0.1),
        adam(weight_decay=0.1, decoupled_weight_decay=True),
        adamw(weight_decay=0.1, eps=1e-4),
        rmsprop(momentum=0.5, alpha=0.9, weight_decay=0.1),
    ):
        steps = run.run(parameters, gradients, (1.0, 0.5, 0.5, 2.0, 0.1))
        computed = compute_steps(run.form, parameters, gradients, steps.rates)
        for expected, values in zip(steps.parameters, computed, strict=True):
            for name, value in values.items():
                np.testing.assert_allclose(value, expected[name], rtol=1e-12)


def test_options_that_no_formula_has_are_not_named():
    assert adam(amsgrad=True).form is None
    assert rmsprop(centered=True).form is None
    assert torch_optimizer(lambda p: torch.optim.Adagrad(p)).form is None


def test_other_things_are_refused():
    with pytest.raises(ConfigError, match=r"must return an optimizer, .*Received: int"):
        torch_optimizer(lambda _: 3)
    with pytest.raises(ConfigError, match=r"an optimizer must be torch_optimizer.*Received: int"):
        compare_optimizers(3, TrainConfig())
