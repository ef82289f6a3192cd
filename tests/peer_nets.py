"""MobileNets with the exact modules and names of public repositories, made small.

kuangliu/pytorch-cifar, weiaicunzai/pytorch-cifar100, marvis/pytorch-mobilenet,
tonylins/pytorch-mobilenet-v2, d-li14/mobilenetv2.pytorch, chenyaofo/pytorch-cifar-models and
huggingface/transformers build these modules; each forward pass here is written anew.
"""

import torch
import torch.nn.functional as F
from torch import nn

V1_ROWS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
V1_ROWS = [*V1_ROWS, (1024, 2), (1024, 1)]
V2_ROWS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)]
V2_ROWS = [*V2_ROWS, (6, 160, 3, 2), (6, 320, 1, 1)]
CLASSES = 7
ALPHA = 0.25


def width(channels):
    return int(channels * ALPHA)


def v2_width(channels, alpha=0.35):
    scaled = channels * alpha
    nearest = max(8, int(scaled + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * scaled else nearest + 8


def v2_blocks():
    """(inputs, outputs, stride, expansion) of each block."""
    blocks, inputs = [], v2_width(32)
    for expansion, channels, repeats, stride in V2_ROWS:
        for repeat in range(repeats):
            outputs = v2_width(channels)
            blocks.append((inputs, outputs, stride if repeat == 0 else 1, expansion))
            inputs = outputs
    return blocks


class Named(nn.Module):
    """A module whose parts are given by name."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def depthwise(channels, stride, padding=1):
    return nn.Conv2d(channels, channels, 3, stride, padding, groups=channels, bias=False)


def pointwise(inputs, outputs, bias=False):
    return nn.Conv2d(inputs, outputs, 1, bias=bias)


class Kuangliu(nn.Module):
    def __init__(self):
        super().__init__()
        inputs, blocks = width(32), []
        self.conv1 = nn.Conv2d(3, inputs, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        for channels, stride in V1_ROWS:
            outputs = width(channels)
            parts = {
                "conv1": depthwise(inputs, stride),
                "bn1": nn.BatchNorm2d(inputs),
                "conv2": pointwise(inputs, outputs),
                "bn2": nn.BatchNorm2d(outputs),
            }
            blocks.append(Named(**parts))
            inputs = outputs
        self.layers = nn.Sequential(*blocks)
        self.linear = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for block in self.layers:
            x = F.relu(block.bn1(block.conv1(x)))
            x = F.relu(block.bn2(block.conv2(x)))
        return self.linear(x.mean((2, 3)))


class Weiaicunzai(nn.Module):
    def __init__(self):
        super().__init__()
        inputs = width(32)
        stem = Named(
            conv=nn.Conv2d(3, inputs, 3, 1, 1, bias=False),
            bn=nn.BatchNorm2d(inputs),
            relu=nn.ReLU(),
        )
        blocks = []
        for channels, stride in V1_ROWS:
            outputs = width(channels)
            blocks.append(
                Named(
                    depthwise=nn.Sequential(
                        depthwise(inputs, stride), nn.BatchNorm2d(inputs), nn.ReLU()
                    ),
                    pointwise=nn.Sequential(
                        pointwise(inputs, outputs, bias=True), nn.BatchNorm2d(outputs), nn.ReLU()
                    ),
                )
            )
            inputs = outputs
        self.stem = nn.Sequential(stem, blocks[0])
        self.conv1 = nn.Sequential(*blocks[1:3])
        self.conv2 = nn.Sequential(*blocks[3:5])
        self.conv3 = nn.Sequential(*blocks[5:11])
        self.conv4 = nn.Sequential(*blocks[11:])
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        first, second = self.stem
        x = first.relu(first.bn(first.conv(x)))
        for block in (second, *self.conv1, *self.conv2, *self.conv3, *self.conv4):
            x = block.pointwise(block.depthwise(x))
        return self.fc(x.mean((2, 3)))


class Marvis(nn.Module):
    def __init__(self, activation=nn.ReLU, stem_stride=2):
        super().__init__()
        inputs = width(32)
        stem = nn.Conv2d(3, inputs, 3, stem_stride, 1, bias=False)
        blocks = [nn.Sequential(stem, nn.BatchNorm2d(inputs), activation())]
        for channels, stride in V1_ROWS:
            outputs = width(channels)
            first = depthwise(inputs, stride), nn.BatchNorm2d(inputs), activation()
            second = pointwise(inputs, outputs), nn.BatchNorm2d(outputs), activation()
            blocks.append(nn.Sequential(*first, *second))
            inputs = outputs
        self.model = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        return self.fc(self.model(x).mean((2, 3)))


class Flat(nn.Module):
    """tonylins' and d-li14's: one Sequential in each block."""

    def __init__(self, head_apart):
        super().__init__()
        inputs, last = v2_width(32), 1280

        def unit(convolution, linear=False):
            norm = nn.BatchNorm2d(convolution.out_channels)
            return [convolution, norm] if linear else [convolution, norm, nn.ReLU6()]

        features = [nn.Sequential(*unit(nn.Conv2d(3, inputs, 3, 2, 1, bias=False)))]
        for inputs, outputs, stride, expansion in v2_blocks():
            hidden = inputs * expansion
            parts = unit(pointwise(inputs, hidden)) if expansion > 1 else []
            parts += unit(depthwise(hidden, stride)) + unit(pointwise(hidden, outputs), linear=True)
            block = Named(conv=nn.Sequential(*parts))
            block.residual = stride == 1 and inputs == outputs
            features.append(block)
        head = nn.Sequential(*unit(pointwise(outputs, last)))
        if head_apart:
            self.features, self.conv = nn.Sequential(*features), head
        else:
            self.features = nn.Sequential(*features, head)
        self.classifier = nn.Linear(last, CLASSES)

    def forward(self, x):
        for part in self.features:
            if hasattr(part, "residual"):
                y = part.conv(x)
                x = x + y if part.residual else y
            else:
                x = part(x)
        x = self.conv(x) if hasattr(self, "conv") else x
        return self.classifier(x.mean((2, 3)))


class HuggingFaceUnit(nn.Module):
    """A convolution padded as TensorFlow's SAME at even sizes, and a norm."""

    def __init__(self, inputs, outputs, kernel, stride=1, groups=1, activation=True):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.normalization = nn.BatchNorm2d(outputs, eps=1e-3)
        self.pads = {1: (0, 0, 0, 0), 3: (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)}[kernel]
        self.is_linear = not activation

    def forward(self, x):
        x = self.normalization(self.convolution(F.pad(x, self.pads)))
        return x if self.is_linear else F.relu6(x)


class HuggingFaceV1(nn.Module):
    def __init__(self, classes=CLASSES):
        super().__init__()
        inputs, layers = width(32), []
        stem = HuggingFaceUnit(3, inputs, 3, 2)
        for channels, stride in V1_ROWS:
            layers += [
                HuggingFaceUnit(inputs, inputs, 3, stride, inputs),
                HuggingFaceUnit(inputs, width(channels), 1),
            ]
            inputs = width(channels)
        self.mobilenet_v1 = Named(conv_stem=stem, layer=nn.ModuleList(layers))
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.mobilenet_v1.conv_stem(x)
        for layer in self.mobilenet_v1.layer:
            x = layer(x)
        return self.classifier(x.mean((2, 3)))


class HuggingFaceV2(nn.Module):
    def __init__(self, classes=CLASSES):
        super().__init__()
        blocks = []
        for inputs, outputs, stride, expansion in v2_blocks():
            hidden = inputs * expansion
            parts = {"expand_1x1": HuggingFaceUnit(inputs, hidden, 1)} if expansion > 1 else {}
            parts["conv_3x3"] = HuggingFaceUnit(hidden, hidden, 3, stride, hidden)
            parts["reduce_1x1"] = HuggingFaceUnit(hidden, outputs, 1, activation=False)
            block = Named(**parts)
            block.residual = stride == 1 and inputs == outputs
            blocks.append(block)
        stem = blocks.pop(0)
        parts = {"first_conv": HuggingFaceUnit(3, v2_width(32), 3, 2)}
        parts |= {"conv_3x3": stem.conv_3x3, "reduce_1x1": stem.reduce_1x1}
        self.mobilenet_v2 = Named(
            conv_stem=Named(**parts),
            layer=nn.ModuleList(blocks),
            conv_1x1=HuggingFaceUnit(outputs, 1280, 1),
        )
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x):
        net = self.mobilenet_v2
        for part in (net.conv_stem.first_conv, net.conv_stem.conv_3x3, net.conv_stem.reduce_1x1):
            x = part(x)
        for block in net.layer:
            y = block.reduce_1x1(block.conv_3x3(block.expand_1x1(x)))
            x = x + y if block.residual else y
        return self.classifier(net.conv_1x1(x).mean((2, 3)))


def randomized(module, seed=0):
    """The module with norms as training would leave them, in evaluation mode."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.7, 1.6)
            part.bias.data.uniform_(-0.3, 0.6)
        elif isinstance(part, nn.Conv2d) and part.bias is not None:
            part.bias.data.normal_(0, 0.3)
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in")
    return module.eval()


NETS = {
    "kuangliu": ("v1", 1, Kuangliu),
    "weiaicunzai": ("v1", 1, Weiaicunzai),
    "marvis": ("v1", 2, Marvis),
    "tonylins": ("v2", 2, lambda: Flat(head_apart=False)),
    "d-li14": ("v2", 2, lambda: Flat(head_apart=True)),
    "huggingface v1": ("v1", 2, HuggingFaceV1),
    "huggingface v2": ("v2", 2, HuggingFaceV2),
}
"""Name of the layout (and family) -> family, stem stride, and how the net is made."""


def net(name, seed=0):
    torch.manual_seed(seed)
    return randomized(NETS[name][2](), seed)


def images(size=64, count=2, seed=1):
    torch.manual_seed(seed)
    return torch.randn(count, 3, size, size)


def outputs(module, x):
    with torch.no_grad():
        return module(x).numpy()
