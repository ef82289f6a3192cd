"""Import of checkpoints of public repositories: logits, and the report of what was assumed."""

import argparse

import numpy as np
import peer_nets
import pytest
import torch
from peer_nets import NETS, images, net, outputs
from safetensors.torch import save_file

from pymobilenet import MobileNetConfig, backend
from pymobilenet.errors import WeightsError
from pymobilenet.formats import LAYOUTS, load_any, save_as

ROUNDING = 1e-5
"""Of float32 logits, relative: two orders of summation differ by some 1e-7 in each layer."""


def logits(loaded, x):
    return backend("torch").from_state(loaded.config, loaded.state).predict(x.numpy())


def error(loaded, module, x):
    expected = outputs(module, x)
    return np.linalg.norm(logits(loaded, x) - expected) / np.linalg.norm(expected)


def saved(content, path):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", NETS)
def test_an_imported_net_gives_the_projects_logits_and_reports_what_was_assumed(tmp_path, name):
    family, stem_stride, _ = NETS[name]
    module, x = net(name), images()
    loaded = load_any(saved(module.state_dict(), tmp_path / "a.pt"))
    assert loaded.report.layout == f"{name.split()[0]} {family}"
    assert (loaded.config.family, loaded.config.stem_stride) == (family, stem_stride)
    assert error(loaded, module, x) < ROUNDING
    report = str(loaded.report)
    assert f"the file does not state them: stem_stride {stem_stride}, padding" in report
    assert "norm_eps" in report
    assert "--set stem_stride=..." in report


@pytest.mark.parametrize("name", NETS)
def test_a_projects_module_loads_an_exported_file(tmp_path, name):
    module, x = net(name), images()
    loaded = load_any(saved(module.state_dict(), tmp_path / "a.pt"))
    save_as(tmp_path / "b.pt", loaded.config, loaded.state, name.split()[0])
    other = net(name, seed=5)
    other.load_state_dict(torch.load(tmp_path / "b.pt", weights_only=True), strict=True)
    np.testing.assert_allclose(outputs(other, x), outputs(module, x), rtol=1e-4, atol=1e-5)


def test_a_trained_net_with_names_of_two_projects_needs_a_stem_stride(tmp_path):
    # a net for CIFAR of chenyaofo/pytorch-cifar-models has torchvision's names and stem_stride 1
    config = MobileNetConfig("v2", width_mult=0.25, num_classes=10)
    path = tmp_path / "a.pt"
    save_as(path, config, backend("torch").build(config, seed=0).get_state(), to="torchvision")
    state = dict(torch.load(path, weights_only=True))
    path = saved(state, tmp_path / "b.pt")
    assert load_any(path).report.assumed["stem_stride"] == 2  # never trained
    counts = [name for name in state if name.endswith("num_batches_tracked")]
    saved(state | {name: torch.tensor(9) for name in counts}, path)
    with pytest.raises(WeightsError, match=r"stem_stride \(2 or 1\).*--from torchvision"):
        load_any(path)
    assert load_any(path, layout="torchvision").config.stem_stride == 2
    assert load_any(path, layout="chenyaofo").config.stem_stride == 1
    assert load_any(path, settings={"stem_stride": 1}).config.stem_stride == 1


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "net.", "a.b.c."])
@pytest.mark.parametrize("container", ["pt", "safetensors"])
def test_any_common_prefix_of_all_names_is_removed(tmp_path, prefix, container):
    tensors = {prefix + name: tensor for name, tensor in net("d-li14").state_dict().items()}
    (torch.save if container == "pt" else save_file)(tensors, tmp_path / "a")
    loaded = load_any(tmp_path / "a")
    assert loaded.report.layout == "d-li14 v2"
    assert loaded.report.matched["classifier.weight"] == prefix + "classifier.weight"


def test_a_trainers_checkpoint_is_read_with_its_arguments(tmp_path):
    module = net("kuangliu")
    content = {
        "state_dict": module.state_dict(),
        "args": argparse.Namespace(bn_eps=1e-3, img_size=96, mean=[0.1, 0.2, 0.3], std=[1, 1, 1]),
        "metric": np.float64(71.2),
        "best": {1, 2},
    }
    loaded = load_any(saved(content, tmp_path / "a.pt"))
    assert (loaded.config.norm_eps, loaded.config.resolution) == (1e-3, 96)
    assert "norm_eps" not in loaded.report.assumed
    assert loaded.metadata["mean"] == "[0.1,0.2,0.3]"


def test_averaged_weights_are_read_on_request_and_otherwise_reported(tmp_path):
    plain, averaged = net("kuangliu"), net("kuangliu", seed=2)
    content = {"state_dict": plain.state_dict(), "state_dict_ema": averaged.state_dict()}
    path = saved(content, tmp_path / "a.pt")
    loaded = load_any(path)
    assert "under 'state_dict' are used; averaged ones are under state_dict_ema" in str(
        loaded.report
    )
    assert error(loaded, plain, images()) < ROUNDING
    assert error(load_any(path, which="ema"), averaged, images()) < ROUNDING


def test_several_models_in_one_file_are_listed(tmp_path):
    content = {"teacher": net("kuangliu").state_dict(), "student": net("marvis").state_dict()}
    path = saved(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"one state dict, teacher, student: select one"):
        load_any(path)
    assert load_any(path, which="student").report.layout == "marvis v1"
    flat = {f"{k}.{n}": t for k, tensors in content.items() for n, t in tensors.items()}
    with pytest.raises(WeightsError, match="more than one model, under the prefixes"):
        load_any(saved(flat, tmp_path / "b.pt"))
    assert load_any(tmp_path / "b.pt", which="teacher").report.layout == "kuangliu v1"


HEADS = {
    "another number of classes": (lambda m: torch.nn.Linear(m.in_features, 3), 3, True),
    "a layer in a Sequential": (
        lambda m: torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(m.in_features, 3)),
        3,
        True,
    ),
    "without a bias": (lambda m: torch.nn.Linear(m.in_features, 3, bias=False), 3, True),
    "two layers": (
        lambda m: torch.nn.Sequential(
            torch.nn.Linear(m.in_features, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
        ),
        3,
        False,
    ),
    "none": (lambda _m: torch.nn.Identity(), 1000, False),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_trunk_with_any_head_is_read(tmp_path, head):
    new_head, classes, is_used = HEADS[head]
    module, x = net("d-li14"), images()
    module.classifier = new_head(module.classifier).eval()
    loaded = load_any(saved(module.state_dict(), tmp_path / "a.pt"))
    assert loaded.config.num_classes == classes
    if is_used:
        assert error(loaded, module, x) < ROUNDING
        assert "classifier" not in loaded.metadata
    else:
        assert loaded.metadata["classifier"] == "drawn anew"
        assert f"one for {classes} classes is initialized at random" in str(loaded.report)
        module.classifier = torch.nn.Identity()
        model = backend("torch").from_state(loaded.config, loaded.state)
        np.testing.assert_allclose(model.features(x.numpy()), outputs(module, x), atol=1e-5)


def test_a_head_with_a_further_layer_is_not_used(tmp_path):
    tensors = net("kuangliu").state_dict()
    tensors["conv_head.weight"] = torch.zeros(256, 256, 1, 1)
    loaded = load_any(saved(tensors, tmp_path / "a.pt"))
    assert "is not used (linear.weight, linear.bias, conv_head.weight)" in str(loaded.report)
    assert loaded.metadata["classifier"] == "drawn anew"


def test_a_deeper_net_is_refused(tmp_path):
    tensors = net("kuangliu").state_dict()
    last = {name: tensor for name, tensor in tensors.items() if name.startswith("layers.12")}
    tensors |= {name.replace("12", "13"): tensor.clone() for name, tensor in last.items()}
    with pytest.raises(
        WeightsError, match=r"nearest is kuangliu v1: .*left over layers\.13\.conv1"
    ):
        load_any(saved(tensors, tmp_path / "a.pt"))


def test_a_trunk_without_its_last_convolution_is_explained(tmp_path):
    tensors = {n: t for n, t in net("d-li14").state_dict().items() if not n.startswith("conv.")}
    with pytest.raises(WeightsError, match=r"missing .*ends before the trunk's last convolution"):
        load_any(saved(tensors, tmp_path / "a.pt"))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("blocks.0.0.se.conv_reduce.weight", (8, 16, 1, 1), "squeeze-and-excitation .*MobileNetV3"),
        ("conv1.weight", (64, 3, 7, 7), r"a kernel larger than 3x3 \(conv1\.weight\)"),
    ],
)
def test_a_net_of_another_family_is_named_by_what_shows_it(tmp_path, name, shape, message):
    tensors = {name: torch.zeros(shape), "fc.weight": torch.zeros(10, 64)}
    with pytest.raises(WeightsError, match=rf"it has {message}.*no MobileNet V1 or V2"):
        load_any(saved(tensors, tmp_path / "a.pt"))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("scheme", ["numbers", "leaves unchanged"])
def test_scrambled_names_give_the_exact_model_by_structure(tmp_path, name, scheme):
    family = NETS[name][0]
    module, x = net(name), images()
    rng = np.random.default_rng(0)
    numbers = rng.permutation(1000)
    modules: dict[str, int] = {}
    scrambled = {}
    for index, (old, tensor) in enumerate(module.state_dict().items()):
        parent, _, leaf = old.rpartition(".")
        number = modules.setdefault(parent, len(modules))
        new = f"t{numbers[index]}" if scheme == "numbers" else f"m{numbers[number]}.{leaf}"
        scrambled[new] = tensor
    path = saved(scrambled, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"state stem_stride \(2 or 1\); padding \(symmetric"):
        load_any(path)
    known = load_any(saved(module.state_dict(), tmp_path / "b.pt"))
    fields = ("stem_stride", "padding", "activation", "norm_eps")
    settings = {field: getattr(known.config, field) for field in fields}
    loaded = load_any(path, settings=settings)
    assert loaded.report.layout == f"by structure {family}"
    assert error(loaded, module, x) < ROUNDING
    for key, tensor in known.state.items():
        assert loaded.state[key].tobytes() == tensor.tobytes(), key
    again = load_any(path, settings=settings, name_map=loaded.report.name_map)
    assert again.state["classifier.weight"].tobytes() == known.state["classifier.weight"].tobytes()


def test_scrambled_names_in_a_file_without_order_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    numbers, modules, scrambled = rng.permutation(1000), {}, {}
    for old, tensor in net("marvis").state_dict().items():
        parent, _, leaf = old.rpartition(".")
        scrambled[f"m{numbers[modules.setdefault(parent, len(modules))]}.{leaf}"] = tensor
    save_file(scrambled, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="by structure it is no MobileNet"):
        load_any(tmp_path / "a.safetensors")


def test_every_layout_of_another_project_has_all_settings():
    for layout in LAYOUTS:
        if layout.name != "canonical":
            assert {"stem_stride", "padding", "activation", "norm_eps"} <= set(layout.fixed)
    assert peer_nets.CLASSES == 7
