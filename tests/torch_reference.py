"""The same net of torch's own layers, put together from the paper's table, for the tests."""

import numpy as np
import paper
import torch
from small_models import SMALL, random_model
from torch import nn

from pymobilenet import backend

STATE = random_model(SMALL).get_state()


class Reference(nn.Sequential):
    """Conv2d, BatchNorm2d, ReLU6 for each row of the table; mean; Linear."""

    def __init__(self, config, dtype=torch.float64):
        found, channels = [], config.in_channels
        activation = {"relu6": nn.ReLU6, "relu": nn.ReLU}[config.activation]
        for row, (kind, stride, _, outputs, _) in enumerate(paper.TABLE):
            width = int(config.width_mult * outputs)
            stride = stride if row else config.stem_stride
            kernel, groups = (1, 1) if kind == "pw" else (3, channels if kind == "dw" else 1)
            conv = nn.Conv2d(
                channels, width, kernel, stride, kernel // 2, groups=groups, bias=False
            )
            norm = nn.BatchNorm2d(width, config.norm_eps, config.norm_momentum)
            found += [conv, norm, activation()]
            channels = width
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, config.num_classes)]
        super().__init__(*found, *head)
        self.to(dtype)

    def canonical_names(self):
        """This module's own names -> the canonical ones."""
        found = {}
        for row, (kind, *_) in enumerate(paper.TABLE):
            part = {"dw": "depthwise", "pw": "pointwise"}.get(kind)
            unit = f"blocks.{(row - 1) // 2}.{part}" if row else "stem"
            found[f"{3 * row}.weight"] = f"{unit}.conv.weight"
            for name in ("weight", "bias", "running_mean", "running_var"):
                found[f"{3 * row + 1}.{name}"] = f"{unit}.norm.{name}"
        last = len(self) - 1
        return found | {f"{last}.{name}": f"classifier.{name}" for name in ("weight", "bias")}

    def take(self, state):
        """Copy arrays by canonical name; every name of both sides must have its partner."""
        names = self.canonical_names()
        own = {k: v for k, v in self.state_dict().items() if not k.endswith("num_batches_tracked")}
        assert {names[name] for name in own} == set(state)
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(state[names[name]]))
        return self

    def state(self):
        names = self.canonical_names()
        own = self.state_dict()
        return {canonical: own[name].numpy().copy() for name, canonical in names.items()}

    def grads(self):
        names = self.canonical_names()
        return {names[name]: p.grad.numpy().copy() for name, p in self.named_parameters()}


def torch_model(state=STATE, config=SMALL, dtype="float64", **options):
    typed = {name: tensor.astype(dtype) for name, tensor in state.items()}
    return backend("torch").from_state(config, typed, **options)


def assert_close(found, expected, rtol):
    """Norm-wise, tensor by tensor."""
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        error = np.linalg.norm(np.asarray(found[name], np.float64) - tensor)
        assert error <= rtol * np.linalg.norm(tensor), name
