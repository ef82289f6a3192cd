"""What a trace of a torch module holds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pymobilenet.errors import ConfigError
from pymobilenet.parity.diff import participant


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        y = self.relu(self.conv(x))
        y = self.relu(y - 0.1) + y
        y = F.max_pool2d(F.hardswish(y), 2)
        y = y.mean((2, 3))
        return torch.softmax(self.fc(y), dim=1)


@pytest.fixture
def inputs():
    return np.random.default_rng(0).standard_normal((2, 3, 8, 10))


def test_layers_and_functions_are_recorded_in_order(inputs):
    trace = participant(Functional()).trace(inputs, "float64")
    assert [(layer.name, layer.kind) for layer in trace.layers] == [
        ("conv", "conv"),
        ("relu", "activation"),
        ("relu#2", "activation"),
        ("add", "add"),
        ("hardswish", "activation"),
        ("max_pool2d", "max_pool"),
        ("mean", "mean_pool"),
        ("fc", "dense"),
        ("softmax", "softmax"),
    ]
    assert trace.layers[-1].output.tobytes() == trace.output.tobytes()


def test_values_are_those_before_a_layer_in_place_changed_them(inputs):
    trace = participant(Functional()).trace(inputs, "float64")
    conv, relu = trace.layers[:2]
    assert conv.output.min() < 0
    assert np.array_equal(relu.inputs[0], conv.output)
    assert np.array_equal(relu.output, np.maximum(conv.output, 0))


def test_every_layer_runs_again_on_its_inputs(inputs):
    model = participant(Functional())
    for layer in model.trace(inputs, "float64").layers:
        assert np.array_equal(model.run_layer(layer, layer.inputs), layer.output), layer


def test_the_module_itself_stays_as_it_is(inputs):
    module = Functional().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    participant(module).trace(inputs, "float64", draw=1)
    assert module.training
    assert module.conv.weight.dtype == torch.float32
    assert not module.conv._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_draw_moves_every_weight_by_one_unit_in_the_last_place(inputs):
    model = participant(Functional())
    base, drawn = (model.trace(inputs, "float32", draw).layers[0] for draw in (None, 0))
    step = np.abs(drawn.params["weight"].view(np.int32) - base.params["weight"].view(np.int32))
    assert set(step.ravel().tolist()) == {1}


def test_a_module_that_returns_several_tensors_is_refused(inputs):
    class Two(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(ConfigError, match=r"must return one tensor\. Received: tuple"):
        participant(Two()).trace(inputs, "float64")
