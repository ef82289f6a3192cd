"""A training step of two models is compared: loss, gradients, running statistics."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diff.nets import Net
from diff.nets import images as net_images
from diff.training_nets import LABELS, TRAINING_FAULTS, TrainedNet, images
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typed_commands import refused, run

from pymobilenet.backends.torch.tracing import TorchParticipant
from pymobilenet.backends.trace import Layer
from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff import compare
from pymobilenet.parity.diff.junit import as_junit
from pymobilenet.parity.diff.loss_forms import ARGUMENTS, REDUCTIONS, LossForm
from pymobilenet.parity.diff.norm_statistics import identify_rule


def training_of(report):
    return report.comparisons[0].training


@pytest.mark.parametrize("fault", TRAINING_FAULTS, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_fault_in_training_is_caught_located_and_diagnosed(fault, dtype):
    report = compare(
        *(TrainedNet(), fault.net()),
        inputs=images(),
        labels=LABELS,
        losses=[None, fault.loss],
        dtype=dtype,
    )
    assert not report.passed
    comparison = report.comparisons[0]
    faults = comparison.faults + comparison.training.faults
    assert tuple(each.name for each in faults) == fault.differences, str(report)
    for each in faults:
        names = [layer.name.partition("#")[0] for layer in (each.first, each.second) if layer]
        assert fault.place in (each.place, *names) or names == ["dropout"], str(report)
    if fault.name != "active dropout":
        assert comparison.passed_evaluation


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_net_in_another_memory_format_agrees(seed, dtype):
    nets = TrainedNet(), TrainedNet().to(memory_format=torch.channels_last)
    report = compare(*nets, inputs=images(seed), labels=LABELS, dtype=dtype)
    assert report.passed, str(report)
    labels = np.array([0, 2, 9])
    nets = Net(), Net().to(memory_format=torch.channels_last)
    report = compare(*nets, inputs=net_images(seed=seed), labels=labels, dtype=dtype)
    assert report.passed, str(report)


def test_a_dropout_that_drops_nothing_need_not_be_in_both():
    nets = TrainedNet(), TrainedNet()
    nets[0].dropout.p, nets[1].dropout = 0.0, nn.Identity()
    report = compare(*nets, inputs=images(), labels=LABELS)
    assert report.passed, str(report)


def test_every_parameter_and_statistic_is_compared():
    training = training_of(compare(TrainedNet(), TrainedNet(), inputs=images(), labels=LABELS))
    names = [row.name for row in training.rows if row.quantity == "gradient"]
    assert names == [
        "of the model's output",
        *("classifier: weight", "classifier: bias", "block.1: weight", "block.1: bias"),
        *("block.0: weight", "block.0: bias", "norm: weight", "norm: bias"),
        *("conv: weight", "conv: bias"),
    ]
    statistics = [row.name for row in training.rows if row.quantity == "running statistics"]
    assert statistics == [
        *("norm: running_mean", "norm: running_var"),
        *("block.1: running_mean", "block.1: running_var"),
    ]


def test_a_step_is_that_of_torch():
    net = TrainedNet().double()
    net.dropout.p = 0.0
    net.drop = lambda x: x
    step = TorchParticipant(net).train_step(images(), LABELS, "float64")
    net.train()
    outputs = net(torch.from_numpy(images()))
    loss = F.cross_entropy(outputs, torch.from_numpy(LABELS))
    loss.backward()
    assert step.loss == loss.item()
    for name, tensor in net.named_parameters():
        layer, _, key = name.rpartition(".")
        assert np.array_equal(step.gradients[layer][key], tensor.grad.numpy()), name
    assert np.array_equal(step.statistics["norm"]["running_var"], net.norm.running_var.numpy())


def test_the_module_stays_as_it_is():
    net = TrainedNet()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.eval()
    compare(net, net, inputs=images(), labels=LABELS)
    assert not net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_zero_gradient_is_judged_by_all_gradients():
    """The bias before a norm has no gradient but rounding, which differs from run to run."""
    nets = TrainedNet(), TrainedNet()
    nets[1].conv.bias = None
    nets[1].norm.running_mean.sub_(nets[0].conv.bias.data)
    rows = training_of(compare(*nets, inputs=images(), labels=LABELS)).rows
    worst = max(row.ratio for row in rows if row.quantity == "gradient")
    assert worst < 30


@given(
    st.sampled_from(REDUCTIONS),
    st.sampled_from(ARGUMENTS),
    st.sampled_from([0.0, 0.1, 0.25]),
    st.sampled_from([0, 1, -1]),
    st.integers(0, 2**32),
)
def test_a_form_of_the_loss_has_the_gradient_that_differences_have(
    reduction, argument, smoothing, shift, seed
):
    form = LossForm(reduction, argument, smoothing, shift)
    outputs = np.random.default_rng(seed).uniform(0.1, 1, (4, 5))
    labels = np.array([0, 4, 2, 2])
    _, gradient = form.compute(outputs, labels)
    for index in ((0, 0), (1, 4), (3, 1)):
        step = np.zeros_like(outputs)
        step[index] = 1e-6
        losses = [form.compute(outputs + sign * step, labels)[0] for sign in (1, -1)]
        assert abs((losses[0] - losses[1]) / 2e-6 - gradient[index]) < 1e-6


@pytest.mark.parametrize(("dtype", "is_biased"), [("float64", False), ("float32", None)])
def test_a_variance_that_rounding_hides_is_not_guessed(dtype, is_biased):
    values = np.random.default_rng(0).standard_normal((64, 2, 40, 40)).astype(dtype)
    params = {"running_mean": np.ones(2, dtype), "running_var": np.full(2, 2, dtype)}
    norm = Layer("norm", "batch_norm", (values,), values, params)
    torch_norm = nn.BatchNorm2d(2, momentum=1e-2).to(getattr(torch, dtype))
    with torch.no_grad():
        torch_norm.running_mean.fill_(1)
        torch_norm.running_var.fill_(2)
    torch_norm(torch.from_numpy(values))
    after = {name: getattr(torch_norm, name).numpy() for name in params}
    rule = identify_rule(norm, after)
    assert rule.momentum == pytest.approx(1e-2, rel=1e-3)
    assert rule.is_biased is is_biased


def test_models_without_gradients_are_named(tmp_path):
    report = compare(TrainedNet(), lambda x: x[:, :1, 0, 0], inputs=images(), labels=LABELS)
    assert "not compared in training: <lambda> without gradients" in str(report)
    report.save(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:4], "labels must be 5 integers"),
        (LABELS.astype(float), "labels must be 5 integers"),
        (LABELS - 1, "the least -1"),
        (LABELS + 1, "less than the number of classes, 10. Received: 10"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(ConfigError, match=message):
        compare(TrainedNet(), TrainedNet(), inputs=images(), labels=labels)


def test_other_losses_are_refused():
    nets = TrainedNet(), TrainedNet()
    with pytest.raises(ConfigError, match="one for each of 2 models"):
        compare(*nets, inputs=images(), labels=LABELS, losses=[None])
    with pytest.raises(ConfigError, match="the loss must be one number"):
        compare(*nets, inputs=images(), labels=LABELS, losses=[None, lambda o, _: o])
    with pytest.raises(ConfigError, match="the loss must be one number"):
        compare(*nets, inputs=images(), labels=LABELS, losses=[None, lambda _o, _y: 1.0])


def test_reports_show_the_training_step(tmp_path):
    other = TrainedNet()
    other.norm = nn.BatchNorm2d(8, momentum=0.9)
    other.norm.load_state_dict(TrainedNet().norm.state_dict())
    report = compare(TrainedNet(), other, inputs=images(), labels=LABELS)
    report.save(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())["comparisons"][0]["training"]
    assert [fault["name"] for fault in content["faults"]] == ["momentum of a norm"]
    assert len(content["rows"]) == len(training_of(report).rows)
    page = (tmp_path / "report.html").read_text()
    assert "the batch has the weight 0.9 instead of 0.1, its complement" in page
    assert "block.0: weight" in page
    (suite,) = ET.fromstring(as_junit(report))
    failed = {
        (case.get("classname"), case.get("name"))
        for case in suite
        if case.find("failure") is not None
    }
    names = "norm: running_mean", "norm: running_var", "norm: momentum of a norm"
    assert failed == {("running statistics", name) for name in names[:2]} | {("training", names[2])}


def files(folder):
    """The command line's names of a net, of one with another loss, and of one with other norms."""
    lines = [
        "from diff.training_nets import TrainedNet, sum_of_smoothed, with_norm",
        "from torch import nn",
        "def build(): return TrainedNet()",
        "def summed(): return TrainedNet(), sum_of_smoothed",
        "def complement(): return with_norm(nn.BatchNorm2d, momentum=0.9)",
    ]
    (folder / "nets.py").write_text("\n".join([*lines, ""]))
    return [f"{folder}/nets.py:{name}" for name in ("build", "summed", "complement")]


def test_the_command_takes_labels_from_files_or_draws_them(tmp_path):
    first, summed, complement = files(tmp_path)
    np.savez(tmp_path / "batch.npz", labels=LABELS, images=images())
    np.save(tmp_path / "images.npy", images())
    np.save(tmp_path / "labels.npy", LABELS)
    for options in (
        ("--inputs", tmp_path / "batch.npz"),
        ("--inputs", tmp_path / "images.npy", "--labels", tmp_path / "labels.npy"),
        ("--shape", "3,9,11", "--labels", "random"),
    ):
        done = run("diff", first, first, *options)
        assert done.exit_code == 0, done.output
        assert "in a training step they agree" in done.output
        done = run("diff", first, summed, *options)
        assert done.exit_code == 1
        assert "the loss is the sum instead of the mean" in done.output
        assert "labels are smoothed by 0.1 instead of 0" in done.output
        done = run("diff", first, complement, *options)
        assert "norm: momentum of a norm" in done.output.replace(" (batch norm)", "")
        assert run("diff", first, complement, *options, "--fail-on", "output").exit_code == 0
    assert run("diff", first, complement, "--shape", "3,9,11").exit_code == 0


def test_files_of_labels_are_read_as_data(tmp_path):
    first, *_ = files(tmp_path)
    np.save(tmp_path / "objects.npy", np.array([object()]))
    np.savez(tmp_path / "only.npz", labels=LABELS)
    shape = "--shape", "3,9,11"
    message = refused("diff", first, first, *shape, "--labels", tmp_path / "objects.npy")
    assert "must be an .npy or .npz file" in message
    message = refused("diff", first, first, *shape, "--labels", tmp_path / "none.npy")
    assert "No such file" in message
    message = refused("diff", first, first, "--inputs", tmp_path / "only.npz")
    assert "must have an array of inputs" in message
