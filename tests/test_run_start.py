"""A run starts from a model of another project with the same options as `convert`."""

import json

import numpy as np
import pytest
import torch
from peer_nets import images, net, outputs
from run_files import write_images, write_recipe

from pymobilenet import backend
from pymobilenet.errors import ConfigError, WeightsError
from pymobilenet.formats import load_any
from pymobilenet.training import begin, load_recipe, resume
from pymobilenet.training.setup import first_state
from pymobilenet.weights import initial_state

DATA = ("data=synthetic", "limit=20", "train_eval_images=10")


def start_run(*changes):
    """The config and the first state of the recipe ``smoke`` without its own [model]."""
    recipe = load_recipe("smoke", [*DATA, *changes])
    recipe.model.clear()
    config, state, _ = first_state(recipe)
    return config, state


def test_a_run_starts_from_the_averaged_weights_of_a_checkpoint(tmp_path):
    plain, averaged = net("kuangliu"), net("kuangliu", seed=2)
    content = {"state_dict": plain.state_dict(), "state_dict_ema": averaged.state_dict()}
    torch.save(content, tmp_path / "a.pt")
    _, state = start_run(f"start={tmp_path / 'a.pt'}", "start_which=ema")
    assert np.array_equal(state["stem.conv.weight"], averaged.conv1.weight.detach().numpy())


@pytest.mark.slow
def test_a_run_starts_with_a_map_of_names(tmp_path):
    module = net("kuangliu")
    torch.save(module.state_dict(), tmp_path / "a.pt")
    name_map = load_any(tmp_path / "a.pt").report.name_map
    (tmp_path / "map.json").write_text(json.dumps(name_map))
    settings = ("stem_stride=1", "padding=symmetric", "activation=relu", "norm_eps=1e-5")
    recipe = load_recipe(
        "smoke",
        [
            *DATA,
            f"start={tmp_path / 'a.pt'}",
            f"start_map={tmp_path / 'map.json'}",
            *(f"model.{setting}" for setting in settings),
        ],
    )
    for name in set(recipe.model) - {"stem_stride", "padding", "activation", "norm_eps"}:
        del recipe.model[name]
    _, state, _ = first_state(recipe)
    assert np.array_equal(state["stem.conv.weight"], module.conv1.weight.detach().numpy())


@pytest.mark.slow
def test_a_run_starts_with_the_settings_that_a_sample_determines(tmp_path):
    module, x = net("kuangliu"), images(32)
    tensors = {f"tensor{n}": t for n, t in enumerate(module.state_dict().values())}
    torch.save(tensors, tmp_path / "a.pt")
    np.savez(tmp_path / "s.npz", inputs=x.numpy(), outputs=outputs(module, x))
    with pytest.raises(WeightsError, match="neither its tensors nor the file state stem_stride"):
        start_run(f"start={tmp_path / 'a.pt'}")
    config, _ = start_run(f"start={tmp_path / 'a.pt'}", f"start_sample={tmp_path / 's.npz'}")
    assert (config.stem_stride, config.activation, config.norm_eps) == (1, "relu", 1e-5)


def assert_same_weights(state, expected):
    assert all(np.array_equal(state[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(("changes", "init"), [((), "torch"), (("init=he",), "he")])
def test_a_run_starts_from_the_initial_weights_of_torch_or_a_named_scheme(tmp_path, changes, init):
    data = f"data={write_images(tmp_path / 'images')}"
    config, state, _ = first_state(load_recipe(write_recipe(tmp_path), [data, *changes]))
    assert_same_weights(state, initial_state(config, 3, init=init))


def test_a_run_with_another_scheme_keeps_it(tmp_path):
    """As do the folders of versions in which `he` was the default: they state their scheme."""
    changes = [f"data={write_images(tmp_path / 'images')}", "init=he"]
    run = begin(load_recipe(write_recipe(tmp_path), changes), backend("torch"), tmp_path / "run")
    run.unlock()
    resumed = resume(tmp_path / "run", backend("torch"))
    assert resumed.run.init == "he"
    assert_same_weights(
        resumed.model.get_state(), initial_state(resumed.model.config, 3, init="he")
    )


def test_options_of_a_start_require_one():
    with pytest.raises(ConfigError, match=r"start_which requires start\. Received: 'ema'"):
        load_recipe("smoke", ["start_which=ema"])
