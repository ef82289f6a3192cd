"""Import and export of timm's and torchvision's modules: the same logits, the same bytes."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pymobilenet import MobileNetConfig, backend
from pymobilenet.errors import WeightsError
from pymobilenet.formats import convert, load_any, save_as
from pymobilenet.parity.floors import distance, draw_order, min_floor, move_ulps
from pymobilenet.parity.tolerances import DRAWS, USUAL_RATIO

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

pytestmark = pytest.mark.peers

CLASSES = 11


def vision(width):
    return lambda: torchvision.models.mobilenet_v2(width_mult=width, num_classes=CLASSES)


def of_timm(name):
    return lambda: timm.create_model(name, num_classes=CLASSES)


MODELS = {
    "torchvision-0.5": ("torchvision", "v2", 0.5, vision(0.5)),
    "torchvision-1.0": ("torchvision", "v2", 1.0, vision(1.0)),
    "torchvision-1.4": ("torchvision", "v2", 1.4, vision(1.4)),
    "mobilenetv2_035": ("timm", "v2", 0.35, of_timm("mobilenetv2_035")),
    "mobilenetv2_050": ("timm", "v2", 0.5, of_timm("mobilenetv2_050")),
    "mobilenetv2_100": ("timm", "v2", 1.0, of_timm("mobilenetv2_100")),
    "mobilenetv2_140": ("timm", "v2", 1.4, of_timm("mobilenetv2_140")),
    "mobilenetv2_110d": ("timm", "v2", 1.1, of_timm("mobilenetv2_110d")),
    "mobilenetv2_120d": ("timm", "v2", 1.2, of_timm("mobilenetv2_120d")),
    "mobilenetv1_100": ("timm", "v1", 1.0, of_timm("mobilenetv1_100")),
    "mobilenetv1_100h": ("timm", "v1", 1.0, of_timm("mobilenetv1_100h")),
    "mobilenetv1_125": ("timm", "v1", 1.25, of_timm("mobilenetv1_125")),
}

DEEPER = {"mobilenetv2_110d": 1.2, "mobilenetv2_120d": 1.4}
"""Name -> depth multiplier."""

each_model = pytest.mark.parametrize("name", MODELS)


def random_peer(make, seed=0, dtype=torch.float64):
    """The peer's module with its own random weights, and norms as training would leave them."""
    torch.manual_seed(seed)
    module = make().to(dtype).eval()
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.2)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(1234)
        elif tensor.ndim == 1:
            tensor.add_(torch.empty_like(tensor).uniform_(-0.3, 0.6))
    return module


def saved(module, path):
    torch.save(module.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).standard_normal((4, 3, 64, 64))


def logits(module, images):
    with torch.no_grad():
        return module(torch.from_numpy(images)).numpy()


def floor(module, images):
    """How far the peer's own logits move with the order of the images and an ulp here and there."""
    base, moves = logits(module, images), []
    original = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for draw in range(DRAWS):
        order = draw_order(draw, 0, len(images))
        for index, (name, tensor) in enumerate(module.named_parameters()):
            moved = move_ulps(original[name].numpy(), draw, index)
            tensor.data.copy_(torch.from_numpy(moved))
        perturbed = logits(module, move_ulps(images[order], draw, 1000))
        moves.append(distance(perturbed, base[order]))
    module.load_state_dict(original)
    return max(*moves, min_floor("float64"))


def oracle(config, state, images):
    return backend("numpy").from_state(config, state).predict(images)


@each_model
def test_the_oracle_gives_the_peers_logits(name, tmp_path, images):
    layout, family, width, make = MODELS[name]
    module = random_peer(make)
    loaded = load_any(saved(module, tmp_path / "peer.pth"))
    assert loaded.report.layout == f"{layout} {family}"
    assert (loaded.config.family, loaded.config.width_mult) == (family, width)
    assert loaded.config.depth_mult == DEEPER.get(name, 1)
    expected, bound = logits(module, images), USUAL_RATIO * floor(module, images)
    assert distance(oracle(loaded.config, loaded.state, images), expected) <= bound
    wrong = MobileNetConfig(**{**loaded.config.to_dict(), "norm_eps": 1e-3})
    assert distance(oracle(wrong, loaded.state, images), expected) > 100 * bound


@each_model
def test_the_peer_loads_what_is_written_for_it(name, tmp_path, images):
    layout, _, _, make = MODELS[name]
    module = random_peer(make)
    report = convert(saved(module, tmp_path / "peer.pth"), tmp_path / "here.safetensors")
    assert report.fits
    convert(tmp_path / "here.safetensors", tmp_path / "back.pth", target=layout)
    written = torch.load(tmp_path / "back.pth", weights_only=True)
    other = random_peer(make, seed=1)
    other.load_state_dict(written, strict=True)
    for key, tensor in module.state_dict().items():
        if key.endswith("num_batches_tracked"):
            assert written[key] == 0
        else:
            assert written[key].numpy().tobytes() == tensor.numpy().tobytes(), key
    assert set(written) == set(module.state_dict())
    assert logits(other, images).tobytes() == logits(module, images).tobytes()


@each_model
def test_an_exported_model_has_the_peers_outputs(name, tmp_path, images):
    layout, family, width, make = MODELS[name]
    config = MobileNetConfig(
        family,
        width_mult=width,
        num_classes=CLASSES,
        rounding="multiple_of_8",
        depth_mult=DEEPER.get(name, 1),
        head_conv=name.endswith("h"),
    )
    state = backend("torch").build(config, seed=3, dtype="float64").get_state()
    save_as(tmp_path / "ours.pth", config, state, layout)
    module = random_peer(make)
    module.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True), strict=True)
    bound = USUAL_RATIO * floor(module, images)
    assert distance(oracle(config, state, images), logits(module, images)) <= bound


def test_torchvision_and_timm_exchange_models(tmp_path, images):
    module = random_peer(vision(1.0))
    convert(saved(module, tmp_path / "vision.pth"), tmp_path / "timm.safetensors", target="timm")
    other = timm.create_model(
        "mobilenetv2_100", num_classes=CLASSES, checkpoint_path=str(tmp_path / "timm.safetensors")
    )
    other = other.double().eval()
    report = convert(tmp_path / "timm.safetensors", tmp_path / "again.pth", target="torchvision")
    assert report.layout == "timm v2"
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert all(
        again[key].equal(tensor)
        for key, tensor in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    )
    # timm's module was float32 when it loaded the file
    assert distance(logits(other, images), logits(module, images)) < 1e-3


def test_a_safetensors_file_as_timm_publishes_them(tmp_path):
    module = random_peer(of_timm("mobilenetv1_100"), dtype=torch.float32)
    save_file(module.state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    loaded = load_any(tmp_path / "model.safetensors")
    assert (loaded.config.family, loaded.report.container) == ("v1", "safetensors")
    assert loaded.state["classifier.weight"].dtype == np.float32
    assert loaded.metadata["format"] == "pt"
    assert loaded.metadata["mean"] == "[0.5,0.5,0.5]"  # timm's own for this net


def test_the_error_for_a_pickled_model_states_what_to_save(tmp_path):
    torch.save(vision(0.5)(), tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=r"MobileNetV2.*nothing was run.*model.state_dict\(\)"):
        load_any(tmp_path / "model.pth")


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "model_ema"])
def test_a_trainers_checkpoint_of_a_data_parallel_model_is_read(key, tmp_path):
    module = torch.nn.DataParallel(random_peer(vision(0.5)))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    content = {key: module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(content, tmp_path / "checkpoint.pth")
    loaded = load_any(tmp_path / "checkpoint.pth")
    assert loaded.state["stem.conv.weight"].tobytes() == (
        module.module.features[0][0].weight.detach().numpy().tobytes()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_exactly(dtype, tmp_path):
    module = random_peer(vision(0.5)).to(dtype)
    loaded = load_any(saved(module, tmp_path / "half.pth"))
    weight = loaded.state["stem.conv.weight"]
    assert weight.dtype == np.float32
    assert torch.from_numpy(weight).equal(module.features[0][0].weight.detach().float())


@pytest.mark.parametrize("width", [0.05, 0.31, 0.9, 1.33, 1.99])
def test_an_unpublished_width_is_inferred(width, tmp_path):
    loaded = load_any(saved(vision(width)(), tmp_path / "peer.pth"))
    module = vision(loaded.config.width_mult)()
    save_as(tmp_path / "ours.pth", loaded.config, loaded.state, "torchvision")
    module.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True), strict=True)
