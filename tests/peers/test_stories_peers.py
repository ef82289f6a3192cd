"""The stories of docs/stories.md that need torchvision, Metalhead or Keras."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from story_blocks import run_story, stories

from pymobilenet.formats import load_any, save_as

os.environ["KERAS_BACKEND"] = "torch"

METALHEAD = "torchvision's MobileNetV2 and Metalhead's"
RESNET = "A ResNet-18 from torchvision to Flux"
KERAS = "A Keras file and its ONNX exports"

pytestmark = [pytest.mark.peers, pytest.mark.long]


@pytest.mark.julia
def test_the_story_of_metalhead(tmp_path, monkeypatch, julia_peers):  # noqa: ARG001
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    run_story(stories()[METALHEAD])


@pytest.mark.julia
def test_the_story_of_a_resnet(tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    run_story(stories()[RESNET])


@pytest.mark.filterwarnings("ignore")  # keras' own, when it exports
def test_the_story_of_keras(tmp_path, monkeypatch):
    keras = pytest.importorskip("keras")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    place_weights(tmp_path / "mobilenet_2_5_224_tf.h5", keras)
    try:
        run_story(stories()[KERAS])
    finally:
        sys.modules.pop("keras_net", None)


def place_weights(path, keras):
    """The official file, where there is one, or one with random weights of the same structure."""
    if "PYMOBILENET_TEST_DATA" in os.environ:
        path.symlink_to(Path(os.environ["PYMOBILENET_TEST_DATA"], path.name).resolve())
        return
    model, random = keras.applications.MobileNet(alpha=0.25, weights=None), np.random.default_rng(0)
    for variable in model.weights:
        fan_in = 9 if variable.shape[-1] == 1 else np.prod(variable.shape[:-1])
        values = {
            "kernel": random.normal(0, np.sqrt(2 / fan_in), variable.shape),
            "gamma": random.uniform(0.7, 1.6, variable.shape),
            "moving_variance": random.uniform(0.5, 2, variable.shape),
        }
        other = random.normal(0, 0.2, variable.shape)
        variable.assign(values.get(variable.name, other))
    model.save_weights(path.with_name("random.weights.h5"))
    loaded = load_any(path.with_name("random.weights.h5"))
    save_as(path, loaded.config, loaded.state, "keras")
