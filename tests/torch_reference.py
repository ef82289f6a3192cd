"""The same network from torch's own layers, built from the paper's table, for the tests."""

import numpy as np
import paper
import torch
from small_models import SMALL, random_model
from torch import nn

from pymobilenet import backend

STATE = random_model(SMALL).get_state()


class Reference(nn.Sequential):
    """Conv2d, BatchNorm2d and ReLU6 for each row of the table, then mean and Linear."""

    def __init__(self, config, dtype=torch.float64):
        modules, channels = [], config.in_channels
        activation = {"relu6": nn.ReLU6, "relu": nn.ReLU}[config.activation]
        for row, (kind, stride, _, outputs, _) in enumerate(paper.TABLE):
            width = int(config.width_mult * outputs)
            stride = stride if row else config.stem_stride
            kernel, groups = (1, 1) if kind == "pw" else (3, channels if kind == "dw" else 1)
            conv = nn.Conv2d(
                channels, width, kernel, stride, kernel // 2, groups=groups, bias=False
            )
            norm = nn.BatchNorm2d(width, config.norm_eps, config.norm_momentum)
            modules += [conv, norm, activation()]
            channels = width
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, config.num_classes)]
        super().__init__(*modules, *head)
        self.to(dtype)

    def canonical_names(self):
        """This module's parameter names -> the canonical names."""
        names = {}
        for row, (kind, *_) in enumerate(paper.TABLE):
            role = {"dw": "depthwise", "pw": "pointwise"}.get(kind)
            unit = f"blocks.{(row - 1) // 2}.{role}" if row else "stem"
            names[f"{3 * row}.weight"] = f"{unit}.conv.weight"
            for field in ("weight", "bias", "running_mean", "running_var"):
                names[f"{3 * row + 1}.{field}"] = f"{unit}.norm.{field}"
        last = len(self) - 1
        return names | {f"{last}.{field}": f"classifier.{field}" for field in ("weight", "bias")}

    def load(self, state):
        """Copy arrays by canonical name; both sides must have the same names."""
        names = self.canonical_names()
        tensors = {
            k: v for k, v in self.state_dict().items() if not k.endswith("num_batches_tracked")
        }
        assert {names[name] for name in tensors} == set(state)
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(state[names[name]]))
        return self

    def state(self):
        names = self.canonical_names()
        tensors = self.state_dict()
        return {canonical: tensors[name].numpy().copy() for name, canonical in names.items()}

    def grads(self):
        names = self.canonical_names()
        return {names[name]: p.grad.numpy().copy() for name, p in self.named_parameters()}


def torch_model(state=STATE, config=SMALL, dtype="float64", **options):
    typed = {name: tensor.astype(dtype) for name, tensor in state.items()}
    return backend("torch").from_state(config, typed, **options)


def assert_close(arrays, expected, rtol):
    """Compare the norm of the difference with that of the expected array, for each name."""
    assert set(arrays) == set(expected)
    for name, tensor in expected.items():
        error = np.linalg.norm(np.asarray(arrays[name], np.float64) - tensor)
        assert error <= rtol * np.linalg.norm(tensor), name
