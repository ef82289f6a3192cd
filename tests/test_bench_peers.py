"""`bench`: contenders compute what torch does, in float32 within its noise, in int8 nearly."""

import sys

import numpy as np
import pytest

from pymobilenet import MobileNetConfig, backend
from pymobilenet.bench import CONTENDERS, available, onnx_peers
from pymobilenet.bench.onnx_peers import FLOAT32, INT8, onnx_file, openvino_request
from pymobilenet.errors import BackendUnavailable
from pymobilenet.parity.floors import distance, min_floor
from pymobilenet.parity.tolerances import USUAL_RATIO

SMALL = {"width_mult": 0.25, "resolution": 32, "num_classes": 10}
CONFIGS = {"v1": MobileNetConfig(**SMALL), "v2": MobileNetConfig("v2", **SMALL)}
IMAGES = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)

in_openvino = pytest.mark.skipif(
    onnx_peers.openvino_missing(INT8) is not None, reason="openvino is not installed"
)
IN_FLOAT32 = ["torch channels_last", "onnxruntime", pytest.param("OpenVINO", marks=in_openvino)]
IN_INT8 = ["onnxruntime int8", pytest.param("OpenVINO int8", marks=in_openvino)]


def predicted(name, config):
    (one,), _ = available([name])
    return one.predict(config, IMAGES, None)()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("name", IN_FLOAT32)
def test_float32_contenders_predict_what_torch_does(name, config):
    logits = backend("torch").build(config).predict(IMAGES)
    assert distance(predicted(name, config), logits) <= USUAL_RATIO * min_floor("float32")


@pytest.mark.parametrize("name", IN_INT8)
def test_int8_contenders_predict_with_the_quantized_file(name):
    logits = backend("torch").build(CONFIGS["v1"]).predict(IMAGES)
    assert 1e-3 < distance(predicted(name, CONFIGS["v1"]), logits) < 0.3


def test_the_precision_of_a_contender_is_in_its_name():
    assert {one.precision for one in CONTENDERS} == {FLOAT32, INT8}
    assert all(("int8" in one.name) == (one.precision == INT8) for one in CONTENDERS)


@in_openvino
def test_openvino_computes_in_float32_on_the_chosen_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with onnx_file(CONFIGS["v1"], FLOAT32) as path:
        model = openvino_request(path).get_compiled_model()
    assert not path.exists()
    assert model.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert model.get_property("PERFORMANCE_HINT") == "LATENCY"
    assert model.get_property("INFERENCE_NUM_THREADS") == 1


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(onnx_peers.importlib.util, "find_spec", lambda _: None)
    assert onnx_peers.onnxruntime_missing() == "onnx and onnxruntime not installed"
    assert onnx_peers.openvino_missing(FLOAT32) == "onnx and openvino not installed"
    assert "onnxruntime" in onnx_peers.openvino_missing(INT8)
    with pytest.raises(BackendUnavailable, match="OpenVINO: onnx and openvino not installed"):
        available(["OpenVINO"])


def test_an_openvino_that_does_not_load_is_unavailable(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailable, match=r"pip install pymobilenet\[openvino\]"):
        openvino_request(tmp_path / "model.onnx")
