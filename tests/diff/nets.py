"""A net with a layer of every kind, and faults that are planted in it."""

import types
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SHAPE = (3, 12, 12)


def images(count=3, seed=0):
    """(count, *SHAPE), of about the values of normalised photographs."""
    return 2 * np.random.default_rng(seed).standard_normal((count, *SHAPE))


class Net(nn.Module):
    """Every kind of layer once; `forward` consults a few switches that faults set."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.stem_norm = nn.BatchNorm2d(8)
        self.stem_act = nn.ReLU6(inplace=True)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(8)
        self.depthwise_act = nn.Hardswish()
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.group_norm = nn.GroupNorm(2, 8)
        self.pointwise_act = nn.GELU()
        self.up = nn.ConvTranspose2d(8, 8, 3)
        self.up_act = nn.LeakyReLU()
        self.max_pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.mean_pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(8 * 4 * 4, 16)
        self.layer_norm = nn.LayerNorm(16)
        self.square = nn.Linear(16, 16)
        self.classifier = nn.Linear(16, 10)
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)):
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias, std=3)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)

        with torch.no_grad():
            self.stem_norm.bias += 4  # some values are above 6

    def prepare(self, x):
        return x

    def stem_unit(self, x):
        return self.stem_act(self.stem_norm(self.stem(x)))

    def join(self, block_input, _between, x):
        return x + block_input

    def finish(self, x):
        return x

    def forward(self, x):
        stem_input = self.prepare(x)
        x = self.stem_unit(stem_input)
        block_input = x
        x = self.depthwise_act(self.depthwise_norm(self.depthwise(x)))
        between = x
        x = self.pointwise_act(self.group_norm(self.pointwise(x)))
        x = self.join(block_input, between, x)
        x = self.up_act(self.up(x))
        x = self.mean_pool(self.max_pool(x))
        x = self.layer_norm(self.hidden(self.flatten(x)))
        return self.finish(self.classifier(self.square(x)))


class Softened(nn.Module):
    """A net with one more activation, which changes nothing."""

    def __init__(self, net):
        super().__init__()
        self.net, self.bound = net, nn.Hardtanh(-1e9, 1e9)

    def forward(self, x):
        return self.bound(self.net(x))


@dataclass(frozen=True)
class NetFault:
    """A fault: what it does to a `Net`, the layer it is in, and the difference that explains it."""

    name: str
    layer: str
    difference: str
    plant: object

    def __str__(self):
        return self.name

    def net(self):
        net = Net()
        self.plant(net)
        return net


def weight(layer, change):
    """Plant a change of a layer's weight."""

    def plant(net):
        module = getattr(net, layer)
        with torch.no_grad():
            module.weight.copy_(change(module.weight.clone()))

    return plant


def values(layer, name, change):
    """Plant a change of any tensor of a layer."""

    def plant(net):
        tensor = getattr(getattr(net, layer), name)
        with torch.no_grad():
            tensor.copy_(change(tensor.clone()))

    return plant


def setting(layer, **settings):
    """Plant other attributes of a layer."""

    def plant(net):
        for name, value in settings.items():
            setattr(getattr(net, layer), name, value)

    return plant


def replaced(layer, module):
    """Plant another module in the place of a layer."""
    return lambda net: setattr(net, layer, module)


def method(name, function):
    """Plant another method; `function` gets the net first."""
    return lambda net: setattr(net, name, types.MethodType(function, net))


class Flattened(nn.Module):
    """Flatten with the channels last, as Keras does."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class ZeroPaddedMax(nn.Module):
    def forward(self, x):
        return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)


class PaddedAtTheEnd(nn.Module):
    """The stem with TensorFlow's padding."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.conv.weight, self.conv.bias, stride=2)


def biased(net):
    net.depthwise.bias = nn.Parameter(torch.linspace(-1, 1, 8))


def batch_statistics(net):
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    norm.weight, norm.bias = net.stem_norm.weight, net.stem_norm.bias
    net.stem_norm = norm


def exchanged_strides(net):
    net.stem.stride, net.max_pool.stride = (1, 1), 4


def reordered(net):
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    with torch.no_grad():
        net.classifier.weight.copy_(net.classifier.weight[order].clone())
        net.classifier.bias.copy_(net.classifier.bias[order].clone())


MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
FLIP, AXES, CHANNELS = (
    "kernel flip",
    "kernel height and width exchanged",
    "input and output channels exchanged",
)
NORM_PARAMETERS, EPS, ACTIVATION = "parameters of a norm", "eps of a norm", "activation function"
HALF, SCALING = "weights in half precision", "input scaling"

FAULTS = (
    NetFault("flipped stem", "stem", FLIP, weight("stem", lambda w: w.flip(2, 3))),
    NetFault(
        "flipped depthwise kernel", "depthwise", FLIP, weight("depthwise", lambda w: w.flip(2, 3))
    ),
    NetFault("flipped transposed conv", "up", FLIP, weight("up", lambda w: w.flip(2, 3))),
    NetFault("kernel flipped along one axis", "stem", FLIP, weight("stem", lambda w: w.flip(3))),
    NetFault("stem kernel transposed", "stem", AXES, weight("stem", lambda w: w.transpose(2, 3))),
    NetFault(
        "depthwise kernel transposed",
        "depthwise",
        AXES,
        weight("depthwise", lambda w: w.transpose(2, 3)),
    ),
    NetFault(
        "pointwise channels",
        "pointwise",
        CHANNELS,
        weight("pointwise", lambda w: w.transpose(0, 1)),
    ),
    NetFault("transposed conv channels", "up", CHANNELS, weight("up", lambda w: w.transpose(0, 1))),
    NetFault(
        "dense transposed", "square", "dense weight transposed", weight("square", lambda w: w.T)
    ),
    NetFault(
        "flattened channels last", "flatten", "flatten order", replaced("flatten", Flattened())
    ),
    NetFault(
        "blue before red",
        "stem",
        "channels reversed (RGB, BGR)",
        weight("stem", lambda w: w.flip(1)),
    ),
    NetFault(
        "reversed in forward",
        "stem",
        "channels reversed (RGB, BGR)",
        method("prepare", lambda _, x: x.flip(1)),
    ),
    NetFault("divided by 255", "stem", SCALING, method("prepare", lambda _, x: x / 255)),
    NetFault("multiplied by 255", "stem", SCALING, method("prepare", lambda _, x: x * 255)),
    NetFault("scaled to -1..1", "stem", SCALING, method("prepare", lambda _, x: x * 2 - 1)),
    NetFault(
        "ImageNet's mean",
        "stem",
        SCALING,
        method("prepare", lambda _, x: (x - MEAN.double()) / STD.double()),
    ),
    NetFault(
        "stem padded at the end",
        "stem",
        "padding on one side",
        lambda net: setattr(net, "stem", PaddedAtTheEnd(net.stem)),
    ),
    NetFault(
        "reflected border",
        "depthwise",
        "padding value",
        setting("depthwise", padding_mode="reflect", _reversed_padding_repeated_twice=[1, 1, 1, 1]),
    ),
    NetFault(
        "periodic border",
        "depthwise",
        "padding value",
        setting(
            "depthwise", padding_mode="circular", _reversed_padding_repeated_twice=[1, 1, 1, 1]
        ),
    ),
    NetFault(
        "max pool of zeros",
        "max_pool",
        "padding of a max pool",
        replaced("max_pool", ZeroPaddedMax()),
    ),
    NetFault(
        "padding not counted",
        "mean_pool",
        "padding counted in an average pool",
        setting("mean_pool", count_include_pad=False),
    ),
    NetFault(
        "mean for max",
        "max_pool",
        "kind of pool",
        replaced("max_pool", nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    ),
    NetFault("no bias in the stem", "stem", "missing bias", setting("stem", bias=None)),
    NetFault("no bias in a dense layer", "hidden", "missing bias", setting("hidden", bias=None)),
    NetFault("a bias before the norm", "depthwise", "additional bias", biased),
    NetFault("Keras' eps", "stem_norm", EPS, setting("stem_norm", eps=1e-3)),
    NetFault("a Float32 eps", "stem_norm", EPS, setting("stem_norm", eps=float(np.float32(1e-5)))),
    NetFault("eps of a group norm", "group_norm", EPS, setting("group_norm", eps=1e-3)),
    NetFault("eps of a layer norm", "layer_norm", EPS, setting("layer_norm", eps=1e-6)),
    NetFault("statistics of the batch", "stem_norm", "norm in training mode", batch_statistics),
    NetFault(
        "no scale",
        "depthwise_norm",
        NORM_PARAMETERS,
        values("depthwise_norm", "weight", torch.ones_like),
    ),
    NetFault(
        "no shift",
        "depthwise_norm",
        NORM_PARAMETERS,
        values("depthwise_norm", "bias", torch.zeros_like),
    ),
    NetFault(
        "scale counted from 1",
        "group_norm",
        NORM_PARAMETERS,
        values("group_norm", "weight", lambda w: w + 1),
    ),
    NetFault(
        "deviation as variance",
        "stem_norm",
        NORM_PARAMETERS,
        values("stem_norm", "running_var", torch.sqrt),
    ),
    NetFault(
        "new statistics",
        "stem_norm",
        NORM_PARAMETERS,
        lambda net: net.stem_norm.reset_running_stats(),
    ),
    NetFault("ReLU for ReLU6", "stem_act", ACTIVATION, replaced("stem_act", nn.ReLU())),
    NetFault(
        "SiLU for hard-swish", "depthwise_act", ACTIVATION, replaced("depthwise_act", nn.SiLU())
    ),
    NetFault(
        "tanh form of GELU", "pointwise_act", ACTIVATION, replaced("pointwise_act", nn.GELU("tanh"))
    ),
    NetFault("slope of Keras", "up_act", ACTIVATION, setting("up_act", negative_slope=0.3)),
    NetFault("hard tanh", "stem_act", ACTIVATION, replaced("stem_act", nn.Hardtanh())),
    NetFault(
        "softmax at the end", "softmax", "softmax", method("finish", lambda _, x: x.softmax(1))
    ),
    NetFault("no residual", "add", "missing residual", method("join", lambda _, _a, _b, x: x)),
    NetFault(
        "residual from elsewhere",
        "add",
        "residual from another layer",
        method("join", lambda _, _a, between, x: x + between),
    ),
    NetFault(
        "activation before norm",
        "stem_act",
        "activation before norm",
        method("stem_unit", lambda net, x: net.stem_norm(net.stem_act(net.stem(x)))),
    ),
    NetFault(
        "no norm",
        "stem_norm",
        "missing norm",
        method("stem_unit", lambda net, x: net.stem_act(net.stem(x))),
    ),
    NetFault(
        "no activation",
        "depthwise_act",
        ACTIVATION,
        replaced("depthwise_act", nn.Hardtanh(-1e9, 1e9)),
    ),
    NetFault("float16 weights", "pointwise", HALF, weight("pointwise", lambda w: w.half().float())),
    NetFault("bfloat16 weights", "hidden", HALF, weight("hidden", lambda w: w.bfloat16().float())),
    NetFault("stride on the wrong layer", "stem", "stride", exchanged_strides),
    NetFault(
        "dilation", "depthwise", "dilation", setting("depthwise", dilation=(2, 2), padding=(2, 2))
    ),
    NetFault("classes in another order", "classifier", "order of classes", reordered),
    NetFault(
        "a layer that was not loaded",
        "square",
        "other weights",
        weight("square", lambda w: torch.randn_like(w)),
    ),
)
