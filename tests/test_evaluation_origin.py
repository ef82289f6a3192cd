"""Images are scaled as the origin of the weights states; nets of one channel get grey images."""

import json

import numpy as np
import pytest
import torch
from peer_nets import net
from typer.testing import CliRunner

from pymobilenet import MobileNetConfig, backend
from pymobilenet.cli import app
from pymobilenet.data import for_channels
from pymobilenet.data.preprocessing import LUMA, preprocess
from pymobilenet.errors import ConfigError, DataError, WeightsError
from pymobilenet.evaluation import check_usable
from pymobilenet.formats import load_any


def test_grey_images_are_the_weighted_means_of_the_channels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 4, 5), np.uint8)
    grey, mean, std = for_channels(images, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 1)
    expected = np.tensordot(images.astype(float), LUMA, axes=([1], [0]))
    assert grey.shape == (2, 1, 4, 5)
    assert np.abs(grey[:, 0] - expected).max() <= 0.5
    assert mean == pytest.approx((0.1 * LUMA[0] + 0.2 * LUMA[1] + 0.3 * LUMA[2],))
    assert std == pytest.approx((0.4 * LUMA[0] + 0.5 * LUMA[1] + 0.6 * LUMA[2],))
    assert for_channels(images, mean, std, 3)[0] is images
    with pytest.raises(
        DataError, match=r"must have 3 input channels, or 1\. Received: in_channels 2"
    ):
        for_channels(images, (0.1,) * 3, (0.4,) * 3, 2)


def test_a_grey_image_is_itself_for_a_net_of_one_channel():
    pixels = np.full((1, 2, 2, 3), 77, np.uint8)
    np.testing.assert_allclose(preprocess(pixels, "unit", channels=1), 77 / 255, rtol=1e-6)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_features_are_what_the_classifier_reads(name):
    config = MobileNetConfig("v2", width_mult=0.1, resolution=32, num_classes=3)
    model = backend(name).build(config, dtype="float64")
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    features, state = model.features(images), model.get_state()
    assert features.shape == (2, 1280)
    logits = features @ state["classifier.weight"].T + state["classifier.bias"]
    np.testing.assert_allclose(logits, model.predict(images), atol=1e-12)


def test_an_untrained_classifier_is_not_evaluated(tmp_path):
    tensors = {n: t for n, t in net("kuangliu").state_dict().items() if "linear" not in n}
    torch.save(tensors, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="has no classifier, and the new one"):
        check_usable(load_any(tmp_path / "a.pt"), None, "a.pt")


def test_an_unknown_scaling_is_an_error_that_names_the_options(tmp_path):
    named = {f"x{index}": t for index, t in enumerate(net("kuangliu").state_dict().values())}
    torch.save(named, tmp_path / "a.pt")
    settings = {"stem_stride": 1, "padding": "symmetric", "activation": "relu", "norm_eps": 1e-5}
    loaded = load_any(tmp_path / "a.pt", settings=settings)
    with pytest.raises(ConfigError, match="does not state how images are scaled"):
        check_usable(loaded, None, "a.pt")
    assert check_usable(loaded, "unit", "a.pt") == "unit"


def test_predict_prints_what_was_assumed_and_how_images_are_scaled(tmp_path):
    from PIL import Image

    torch.save(net("kuangliu").state_dict(), tmp_path / "a.pt")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    command = ["predict", str(tmp_path / "a.pt"), str(tmp_path / "a.png")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "images: standard, mean 0.4914 0.4822 0.4465, std 0.2023 0.1994 0.201" in result.stdout
    assert "a.pt: assumed, as kuangliu/pytorch-cifar builds it" in result.stderr
    result = CliRunner().invoke(app, [*command, "--mean", "0.1,0.2,0.3", "--std", "1,1,1"])
    assert "images: standard, mean 0.1 0.2 0.3, std 1 1 1" in result.stdout


def test_convert_writes_a_map_that_it_reads_again(tmp_path):
    named = {f"x{index}": t for index, t in enumerate(net("marvis").state_dict().values())}
    torch.save(named, tmp_path / "a.pt")
    options = ["--set", "stem_stride=2", "--set", "padding=symmetric"]
    options += ["--set", "activation=relu", "--set", "norm_eps=1e-5"]
    files = [str(tmp_path / "a.pt"), str(tmp_path / "b.npz")]
    result = CliRunner().invoke(
        app, ["convert", *files, *options, "--write-map", f"{tmp_path}/m.json"]
    )
    assert result.exit_code == 0, result.output
    assert "x0 " in result.stdout
    names = json.loads((tmp_path / "m.json").read_text())
    assert names["x0"] == "stem.conv.weight"
    again = ["convert", files[0], f"{tmp_path}/c.npz", *options, "--map", f"{tmp_path}/m.json"]
    assert CliRunner().invoke(app, again).exit_code == 0
    assert (tmp_path / "b.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()
