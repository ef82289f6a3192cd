"""ONNX files, compared with the module that they were exported from."""

import warnings

import numpy as np
import pytest
import torch
from diff.nets import SHAPE, Net, images

from pymobilenet.errors import ConfigError
from pymobilenet.parity import assert_same_model, compare

pytest.importorskip("onnxruntime")


def export(module, path, folded):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            torch.zeros(3, *SHAPE),
            path,
            dynamo=False,
            input_names=["images"],
            dynamic_axes={"images": {0: "n"}},
            do_constant_folding=folded,
            training=torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE,
        )
    return path


@pytest.mark.parametrize("folded", [True, False])
def test_an_exported_file_agrees(tmp_path, folded):
    path = export(Net(), tmp_path / "net.onnx", folded)
    report = compare(Net(), str(path), inputs=images())
    assert report.passed, str(report)
    assert not report.comparisons[0].faults, str(report)
    assert len([row for row in report.comparisons[0].rows if row.chained is not None]) >= 15


def test_a_fault_in_a_file_is_diagnosed(tmp_path):
    net = Net()
    with torch.no_grad():
        net.depthwise.weight.copy_(net.depthwise.weight.flip(2, 3).clone())
    path = export(net, tmp_path / "net.onnx", folded=True)
    (fault,) = compare(Net(), path, inputs=images()).comparisons[0].faults
    assert (fault.first.name, fault.name) == ("depthwise", "kernel flip")


def test_a_file_that_is_not_onnx_is_refused(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="must be an ONNX file"):
        compare(Net(), path, inputs=images())


def test_the_assertion_prints_the_report():
    assert_same_model(Net(), Net(), inputs=images())
    wrong = Net()
    wrong.stem_norm.eps = 1e-3
    with pytest.raises(AssertionError, match=r"eps is 0\.001 instead of 1e-05"):
        assert_same_model(Net(), wrong, inputs=images())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((1, *SHAPE)), "at least two samples"),
        (np.zeros((2, *SHAPE), np.uint8), "floating"),
    ],
)
def test_inputs_that_cannot_be_compared_are_refused(inputs, message):
    with pytest.raises(ConfigError, match=message):
        compare(Net(), Net(), inputs=inputs)
