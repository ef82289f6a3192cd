"""The stories of docs/stories.md that need torchvision, Metalhead or Keras."""

import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from story_blocks import run_story, stories

from pymobilenet import MobileNetConfig, backend
from pymobilenet.formats import save_as

os.environ["KERAS_BACKEND"] = "torch"

METALHEAD = "torchvision's MobileNetV2 and Metalhead's"
RESNET = "A ResNet-18 from torchvision to Flux"
KERAS = "A Keras file and its ONNX exports"

pytestmark = [pytest.mark.peers, pytest.mark.slow]


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
    pytest.importorskip("keras")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    place_weights(tmp_path / "mobilenet_2_5_224_tf.h5")
    try:
        run_story(stories()[KERAS])
    finally:
        sys.modules.pop("keras_net", None)


def place_weights(path):
    """The official file, where there is one, or one with random weights of the same structure."""
    if "PYMOBILENET_TEST_DATA" in os.environ:
        path.symlink_to(Path(os.environ["PYMOBILENET_TEST_DATA"], path.name).resolve())
        return
    config = MobileNetConfig(width_mult=0.25, padding="keras", norm_eps=1e-3)
    random = np.random.default_rng(0)
    state = {
        name: (value + random.uniform(-0.3, 0.6, value.shape) * (value.ndim == 1)).astype("f4")
        for name, value in backend("torch").build(config).get_state().items()
    }
    save_as(path, config, state, "keras")
    with h5py.File(path, "r+") as file:  # Keras' file does not state the config
        for name in [each for each in file.attrs if each.startswith("pymobilenet")]:
            del file.attrs[name]
