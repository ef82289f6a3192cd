"""Four nets that people port, written in torch; `classic_nets.jl` has them in Flux.

ResNet-18, a VGG, a U-Net and a multilayer perceptron, all narrow. The two files were written apart:
only shapes and the order of the layers are the same.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 6


class BasicBlock(nn.Module):
    """He et al., arXiv:1512.03385, figure 5, left."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def resnet18(width=8):
    blocks, inputs = [], width
    for stage in range(4):
        outputs = width * 2**stage
        for number in range(2):
            stride = 2 if stage and not number else 1
            blocks.append(BasicBlock(inputs, outputs, stride))
            inputs = outputs
    return nn.Sequential(
        nn.Conv2d(3, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, CLASSES),
    )


def vgg(width=6):
    """Simonyan and Zisserman, arXiv:1409.1556, with three stages; for images of 24x32 pixels."""
    layers, inputs = [], 3
    for stage in range(3):
        for _ in range(2):
            layers += [nn.Conv2d(inputs, width * 2**stage, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width * 2**stage
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        *(nn.Linear(inputs * 3 * 4, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, CLASSES)),
    )


class UNet(nn.Module):
    """Ronneberger et al., arXiv:1505.04597, one level deep; the mean of the maps is classified."""

    def __init__(self, width=6):
        super().__init__()
        self.down = self.unit(3, width)
        self.middle = self.unit(width, 2 * width)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.joined = self.unit(2 * width, width)
        self.head = nn.Conv2d(width, CLASSES, 1)

    @staticmethod
    def unit(inputs, outputs):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(2, outputs), nn.SiLU()
        )

    def forward(self, x):
        wide = self.down(x)
        deep = self.middle(F.max_pool2d(wide, 2))
        joined = self.joined(torch.cat([self.up(deep), wide], 1))
        return self.head(joined).mean((2, 3))


def mlp(features=3 * 9 * 14):
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(features, 24), nn.LayerNorm(24, eps=1e-6), nn.GELU("tanh"), nn.Dropout(0.2)),
        *(nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, CLASSES)),
    )


NETS = {"resnet18": resnet18, "vgg": vgg, "unet": UNet, "mlp": mlp}
SHAPES = {"resnet18": (3, 37, 51), "vgg": (3, 24, 32), "unet": (3, 10, 14), "mlp": (3, 9, 14)}


def torch_net(name, seed):
    """A net with random weights and statistics."""
    torch.manual_seed(seed)
    module = NETS[name]()
    for each in module.modules():
        if isinstance(each, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)):
            nn.init.uniform_(each.weight, 0.5, 1.5)
            nn.init.normal_(each.bias, std=0.5)
        if isinstance(each, nn.BatchNorm2d):
            each.running_mean.normal_(std=0.3)
            each.running_var.uniform_(0.5, 2)
    return module


def flux_net(name, main):
    """The Flux model; `main` is Julia's module Main."""
    if not hasattr(main, "classic_net"):
        main.include(str(Path(__file__).with_suffix(".jl")))
    return main.classic_net(name)


def images(name, seed, count=4):
    return np.random.default_rng(seed).standard_normal((count, *SHAPES[name]))


def labels(seed, count=4):
    return np.random.default_rng(seed).integers(0, CLASSES, count)
