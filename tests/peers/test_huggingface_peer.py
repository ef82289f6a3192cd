"""transformers' MobileNets, in and out: the same weights, the same logits."""

import numpy as np
import pytest
import torch

from pymobilenet import backend
from pymobilenet.formats import load_any, save_as
from pymobilenet.parity.floors import min_floor
from pymobilenet.parity.tolerances import DRAWS, USUAL_RATIO
from pymobilenet.weights.perturb import distance, draw_order, move_ulps

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.peers

CLASSES = 11
NETS = {
    "v1": ("MobileNetV1", {"depth_multiplier": 0.25}),
    "v1, relu, symmetric": (
        "MobileNetV1",
        {"depth_multiplier": 0.5, "hidden_act": "relu", "tf_padding": False},
    ),
    "v2": ("MobileNetV2", {"depth_multiplier": 0.35}),
    "v2, eps 1e-5": ("MobileNetV2", {"depth_multiplier": 1.0, "layer_norm_eps": 1e-5}),
}
each_net = pytest.mark.parametrize("name", NETS)


def random_peer(name, seed=0):
    kind, fields = NETS[name]
    config = getattr(transformers, f"{kind}Config")(image_size=64, num_labels=CLASSES, **fields)
    torch.manual_seed(seed)
    module = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.7, 1.6)
            part.bias.data.uniform_(-0.3, 0.6)
        elif isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    return module


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).standard_normal((2, 3, 64, 64)).astype(np.float32)


def logits(module, images):
    with torch.no_grad():
        return module(torch.from_numpy(images)).logits.numpy()


def floor(module, images):
    base, moves = logits(module, images), []
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for draw in range(DRAWS):
        order = draw_order(draw, 0, len(images))
        for index, (name, tensor) in enumerate(module.named_parameters()):
            tensor.data.copy_(torch.from_numpy(move_ulps(weights[name].numpy(), draw, index)))
        moves.append(distance(logits(module, move_ulps(images[order], draw, 1000)), base[order]))
    module.load_state_dict(weights)
    return max(*moves, min_floor("float32"))


def oracle(loaded, images):
    state = {name: tensor.astype(np.float64) for name, tensor in loaded.state.items()}
    return backend("numpy").from_state(loaded.config, state).predict(images.astype(np.float64))


@each_net
def test_a_folder_of_transformers_gives_its_logits(name, tmp_path, images):
    module = random_peer(name)
    module.save_pretrained(tmp_path / "hf")
    loaded = load_any(tmp_path / "hf")
    assert not loaded.report.assumed
    bound = USUAL_RATIO * floor(module, images)
    assert distance(oracle(loaded, images), logits(module, images)) <= bound


@each_net
def test_transformers_loads_the_folder_that_is_written_for_it(name, tmp_path, images):
    module = random_peer(name)
    module.save_pretrained(tmp_path / "hf")
    loaded = load_any(tmp_path / "hf")
    save_as(tmp_path / "ours", loaded.config, loaded.state, "huggingface", loaded.metadata)
    other = type(module).from_pretrained(tmp_path / "ours").eval()
    assert other.config.image_size == 64
    assert logits(other, images).tobytes() == logits(module, images).tobytes()
