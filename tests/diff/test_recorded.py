"""Recorded outputs take the model's place in a comparison."""

import json

import numpy as np
import pytest
import torch
from diff.nets import FAULTS, SHAPE, Net, images
from diff.training_nets import LABELS, TRAINING_FAULTS, TrainedNet
from diff.training_nets import images as training_images
from torch import nn
from typed_commands import refused, run

from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats import npz
from pymobilenet.parity.diff import RecordedOutputs, compare, record_outputs


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return record_outputs(Net(), images(), tmp_path_factory.mktemp("recorded") / "net.npz")


def changed(path, folder, change):
    """A copy of a file of recorded outputs, whose record was changed."""
    arrays, metadata = npz.read(path)
    record = json.loads(metadata["record"])
    change(record)
    copy = folder / "changed.npz"
    npz.write(copy, arrays, {**metadata, "record": json.dumps(record)})
    return copy


def test_a_recording_agrees_with_its_model(path):
    recorded = RecordedOutputs(path)
    report = compare(recorded, Net(), inputs=recorded.inputs)
    assert report.passed, str(report)
    rows = report.comparisons[0].rows
    live = compare(Net(), Net(), inputs=images()).comparisons[0].rows
    assert [row.alone for row in rows] == [row.alone for row in live]
    assert [row.chained_floor for row in rows] == [row.chained_floor for row in live]
    assert [row.alone_floor for row in rows] == [row.alone_floor for row in live]


@pytest.mark.parametrize("fault", FAULTS[::4], ids=str)
def test_a_fault_against_a_recording_is_diagnosed_as_against_the_model(path, fault):
    recorded = RecordedOutputs(path)
    report = compare(recorded, fault.net(), inputs=recorded.inputs)
    live = compare(Net(), fault.net(), inputs=images())
    names = [each.name for each in report.comparisons[0].faults]
    assert names == [each.name for each in live.comparisons[0].faults]
    assert not report.passed


def test_two_recordings_are_compared_in_the_whole_model(path, tmp_path):
    wrong = Net()
    wrong.stem_norm.eps = 1e-3
    recorded = RecordedOutputs(path)
    other = RecordedOutputs(record_outputs(wrong, images(), tmp_path / "wrong.npz"))
    assert compare(recorded, RecordedOutputs(path), inputs=recorded.inputs).passed
    report = compare(recorded, other, inputs=recorded.inputs)
    (fault,) = report.comparisons[0].faults
    assert (fault.first.name, fault.name) == ("stem_norm", "eps of a norm")
    assert all(row.alone is None for row in report.comparisons[0].rows)


def test_settings_that_json_does_not_have_are_kept(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardtanh(-np.inf, 2.0))
    recorded = RecordedOutputs(record_outputs(net, images(), tmp_path / "net.npz"))
    layers = recorded.trace(recorded.inputs, "float64").layers
    assert layers[1].settings == {"function": "hardtanh", "low": -np.inf, "high": 2.0}
    assert layers[0].settings["padding"] == ((0, 0), (0, 0))


def test_equal_arrays_are_stored_once(path):
    arrays, _ = npz.read(path)
    digests = [(value.shape, value.tobytes()) for value in arrays.values()]
    assert len(set(digests)) == len(digests)


def test_other_inputs_are_refused(path):
    recorded = RecordedOutputs(path)
    with pytest.raises(ConfigError, match="must be those that were recorded"):
        compare(recorded, Net(), inputs=images(seed=1))
    with pytest.raises(ConfigError, match="must both compute in one dtype"):
        compare(recorded, RecordedOutputs(_float32(path)), inputs=recorded.inputs)
    with pytest.raises(ConfigError, match=r"computes in .* Received: float16"):
        record_outputs(Net(), images(), path.parent / "no.npz", "float16")


def _float32(path):
    return record_outputs(Net(), images(), path.parent / "float32.npz", "float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("inputs"), "inputs"),
        (lambda r: r.update(inputs=10**6), "1000000"),
        (lambda r: r.update(output="0"), "not of the type int"),
        (lambda r: r.update(floor=0.0), "a floor is 0.0"),
        (lambda r: r["layers"][0].update(kind="shell"), "of the kind 'shell'"),
        (lambda r: r["layers"][0].update(inputs=[True]), "not of the type int"),
        (lambda r: r["layers"][0].update(params=[]), "not of the type dict"),
        (lambda r: r["layers"][0]["settings"].update(padding=[[10**6, 0]] * 2), "would compute"),
        (lambda r: r["layers"][0]["settings"].update(stride=[10**9, 1]), "would compute"),
        (lambda r: r["layers"][0]["settings"].update(dilation=[0, 1]), "a size is 0"),
        (lambda r: r.update(layers={}), "not of the type list"),
    ],
)
def test_a_damaged_record_is_refused(path, tmp_path, change, message):
    with pytest.raises(WeightsError, match=message):
        RecordedOutputs(changed(path, tmp_path, change))


def test_other_files_are_refused(tmp_path):
    npz.write(tmp_path / "weights.npz", {"w": np.zeros(3)}, {})
    with pytest.raises(WeightsError, match="must be a file of recorded outputs"):
        RecordedOutputs(tmp_path / "weights.npz")
    np.savez(tmp_path / "pickled.npz", a=np.array([object()]))
    with pytest.raises(WeightsError, match="is not an npz file"):
        RecordedOutputs(tmp_path / "pickled.npz")
    with pytest.raises(WeightsError, match="no such file"):
        RecordedOutputs(tmp_path / "none.npz")


def test_the_commands_of_two_machines(tmp_path):
    for name, change in (("right", ""), ("wrong", "    net.stem_norm.eps = 1e-3")):
        lines = ["from diff.nets import Net", "def build():", "    net = Net()", change]
        (tmp_path / f"{name}.py").write_text("\n".join([*lines, "    return net", ""]))
    right, wrong = (f"{tmp_path}/{name}.py:build" for name in ("right", "wrong"))
    file, shape = tmp_path / "right.npz", ",".join(map(str, SHAPE))
    done = run("diff", right, "--shape", shape, "--save-outputs", file)
    assert done.exit_code == 0, done.output
    assert done.output.split() == ["Written:", str(file)]
    assert run("diff", right, "--load-outputs", file).exit_code == 0
    done = run("diff", wrong, "--load-outputs", file)
    assert done.exit_code == 1
    assert "stem_norm (batch norm) / stem_norm (batch norm): eps of a norm" in done.output
    done = run("diff", "--load-outputs", file, "--load-outputs", file)
    assert done.exit_code == 0, done.output
    assert "models must be two or more" in refused("diff", "--load-outputs", file)
    assert "must both compute in float32" in refused(
        "diff", right, "--load-outputs", file, "--dtype", "float32"
    )


def test_weights_are_carried_over_from_a_recording(path, tmp_path):
    lines = ["from diff.nets import Net", "def build():", "    net = Net()"]
    lines += ["    net.stem.weight.data.zero_()", "    return net", ""]
    (tmp_path / "net.py").write_text("\n".join(lines))
    done = run(
        *("diff", f"{tmp_path}/net.py:build"),
        *("--load-outputs", path, "--port", tmp_path / "ported.pt"),
    )
    assert done.exit_code == 0, done.output
    state = torch.load(tmp_path / "ported.pt", weights_only=True)
    assert torch.equal(state["stem.weight"], Net().stem.weight)


@pytest.fixture(scope="module")
def trained_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "trained.npz"
    return record_outputs(TrainedNet(), training_images(), path, labels=LABELS)


def test_a_recorded_training_step_takes_the_models_place(trained_path):
    recorded = RecordedOutputs(trained_path)
    report = compare(recorded, TrainedNet(), inputs=recorded.inputs, labels=recorded.labels)
    assert report.passed, str(report)
    live = compare(TrainedNet(), TrainedNet(), inputs=training_images(), labels=LABELS)
    assert report.comparisons[0].training == live.comparisons[0].training


@pytest.mark.parametrize("fault", TRAINING_FAULTS[::2], ids=str)
def test_a_fault_in_training_is_found_against_a_recording(trained_path, fault):
    recorded = RecordedOutputs(trained_path)
    report = compare(
        *(recorded, fault.net()),
        inputs=recorded.inputs,
        labels=recorded.labels,
        losses=[None, fault.loss],
    )
    comparison = report.comparisons[0]
    faults = comparison.faults + comparison.training.faults
    assert tuple(each.name for each in faults) == fault.differences


def test_other_labels_are_refused(trained_path, path):
    recorded = RecordedOutputs(trained_path)
    with pytest.raises(ConfigError, match="no training step with these labels"):
        compare(recorded, TrainedNet(), inputs=recorded.inputs, labels=LABELS[::-1])
    report = compare(RecordedOutputs(path), Net(), inputs=images(), labels=np.array([0, 1, 2]))
    assert report.comparisons[0].training.note == "Net (1) without gradients"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(labels=r["output"]), "the labels are float64"),
        (lambda r: r.update(loss="1"), "not of the type float"),
        (lambda r: r.update(floors=[["loss", "", "", -1.0]]), "a floor is -1.0"),
        (lambda r: r.update(floors=[["loss", "", 1.0]]), "not enough values"),
        (lambda r: r.update(gradients={"conv": [1]}), "not of the type dict"),
        (lambda r: r.pop("statistics"), "statistics"),
        (lambda r: r["layers"][0].update(kind="shell"), "of the kind 'shell'"),
    ],
)
def test_a_damaged_training_step_is_refused(trained_path, tmp_path, change, message):
    with pytest.raises(WeightsError, match=message):
        RecordedOutputs(changed(trained_path, tmp_path, lambda r: change(r["training"])))


def test_the_commands_of_two_machines_in_training(tmp_path):
    lines = ["from diff.training_nets import TrainedNet, with_norm", "from torch import nn"]
    lines += ["def right(): return TrainedNet()"]
    lines += ["def wrong(): return with_norm(nn.BatchNorm2d, momentum=0.9)", ""]
    (tmp_path / "nets.py").write_text("\n".join(lines))
    right, wrong = (f"{tmp_path}/nets.py:{name}" for name in ("right", "wrong"))
    file = tmp_path / "right.npz"
    done = run("diff", right, "--shape", "3,9,11", "--labels", "random", "--save-outputs", file)
    assert done.exit_code == 0, done.output
    done = run("diff", right, "--load-outputs", file)
    assert done.exit_code == 0
    assert "in a training step they agree" in done.output
    done = run("diff", wrong, "--load-outputs", file)
    assert done.exit_code == 1
    assert "the batch has the weight 0.9 instead of 0.1" in done.output
