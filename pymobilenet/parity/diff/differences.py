"""The known differences between frameworks, and what a layer computes under each of them.

For those that show in evaluation mode, `variants.VARIANTS` has, under the same names, what a layer
computes under each of them. The diagnosis tries them and reports the one that gives the other
model's output.
"""

from __future__ import annotations

from pymobilenet.parity.diff.difference import Difference
from pymobilenet.parity.diff.optimizer_differences import OPTIMIZER_DIFFERENCES
from pymobilenet.parity.diff.structure_differences import STRUCTURE_DIFFERENCES
from pymobilenet.parity.diff.training_differences import TRAINING_DIFFERENCES

CONVS = ("conv", "conv_transpose")
POOLS = ("max_pool", "mean_pool")
NORMS = ("batch_norm", "instance_norm", "group_norm", "layer_norm")

DIFFERENCES = (
    Difference(
        "kernel flip",
        CONVS,
        "Flux.Conv computes a convolution, which flips the kernel; torch, Keras and ONNX compute a "
        "cross-correlation, which does not.",
        "Flux documentation of Conv and CrossCor; NNlib issue 755; Metalhead pull request 14",
        "weight.flip(-1, -2)",
        "reverse(weight; dims=(1, 2)), or Flux.CrossCor",
    ),
    Difference(
        "kernel height and width exchanged",
        CONVS,
        "torch stores kernels as (out, in, height, width), Flux as (width, height, in, out).",
        "PyTorch documentation of Conv2d; Flux documentation of Conv; voxelmorph issue 425",
        "weight.transpose(-1, -2)",
        "permutedims(weight, (2, 1, 3, 4))",
    ),
    Difference(
        "input and output channels exchanged",
        CONVS,
        "The first two axes of the kernel are exchanged: torch's Conv2d is (out, in, ...), its "
        "ConvTranspose2d (in, out, ...).",
        "PyTorch documentation of ConvTranspose2d",
        "weight.transpose(0, 1)",
        "permutedims(weight, (1, 2, 4, 3))",
    ),
    Difference(
        "dense weight transposed",
        ("dense",),
        "torch and Flux store the weight as (out, in), Keras and this package's Julia arrays as "
        "(in, out). A square weight fits both ways.",
        "Keras documentation of Dense",
        "weight.T",
        "permutedims(weight)",
    ),
    Difference(
        "flatten order",
        ("flatten", "dense"),
        "torch flattens maps as (C, H, W) with W fastest; a Julia array (W, H, C) has the same "
        "order in memory, but Keras flattens (H, W, C), and so does a permuted Julia array.",
        "Flux issue 2164; nn-transfer issue 16; MMdnn issue 595",
        "weight.view(out, C, H, W).permute(...).flatten(1)",
        "permutedims(x, ...) before Flux.flatten",
    ),
    Difference(
        "order of classes",
        ("dense",),
        "The outputs are the same numbers in another order, such as sorted by name or by number.",
        "torchvision.datasets.ImageFolder sorts classes by name; Keras' files follow WordNet ids",
        "weight[order], bias[order]",
        "weight[order, :], bias[order]",
    ),
    Difference(
        "channels reversed (RGB, BGR)",
        CONVS,
        "OpenCV and Caffe order the channels of an image blue, green, red.",
        "OpenCV documentation of imread",
        "images.flip(1)",
        "reverse(images; dims=3)",
    ),
    Difference(
        "input scaling",
        (*CONVS, "dense"),
        "Images are scaled to 0..1, -1..1, 0..255, or by a mean and deviation.",
        "keras.applications.imagenet_utils.preprocess_input; torchvision's transforms",
        "scale the images as the other model does",
        "scale the images as the other model does",
    ),
    Difference(
        "padding on one side",
        (*CONVS, "max_pool", "mean_pool"),
        "TensorFlow's SAME padding puts the odd pixel at the end and depends on the stride; torch "
        "and Flux pad both sides alike.",
        "TensorFlow documentation of tf.nn.convolution; MMdnn issue 153; source of Flux.SamePad, "
        "which ignores the stride",
        "F.pad(x, (0, 1, 0, 1)) and padding=0",
        "pad=(0, 1, 0, 1)",
    ),
    Difference(
        "padding value",
        ("conv",),
        "The border is filled with zeros, by reflection, by the nearest pixel, or periodically.",
        "PyTorch documentation of Conv2d, padding_mode",
        "padding_mode=...",
        "NNlib.pad_reflect, pad_repeat, pad_circular",
    ),
    Difference(
        "padding of a max pool",
        ("max_pool",),
        "torch and Flux pad a max pool with -Inf; zeros before the pool make another net.",
        "PyTorch documentation of MaxPool2d",
        "MaxPool2d(padding=...)",
        "MaxPool(k; pad=...)",
    ),
    Difference(
        "padding counted in an average pool",
        ("mean_pool",),
        "torch's AvgPool2d counts the zeros of the padding by default, Keras' and ONNX's do not.",
        "PyTorch documentation of AvgPool2d, count_include_pad; onnx-tensorrt issue 663",
        "count_include_pad=False",
        "pad before MeanPool",
    ),
    Difference(
        "kind of pool",
        ("max_pool", "mean_pool"),
        "One model takes the maximum where the other takes the mean.",
        "PyTorch and Flux documentation of their pools",
        "nn.MaxPool2d or nn.AvgPool2d",
        "MaxPool or MeanPool",
    ),
    Difference(
        "windows of an adaptive pool",
        POOLS,
        "Where the maps are no multiple of the output's size, torch's windows cover all pixels, "
        "overlap and differ in size; Flux's all have one size and one stride.",
        "source of Flux.AdaptiveMeanPool; ATen/native/AdaptivePooling.h in the source of torch",
        "nn.AvgPool2d(kernel, stride) with stride = size // out, kernel = size - (out - 1) * "
        "stride",
        "maps whose size is a multiple of the output's",
    ),
    Difference(
        "corners in resizing (align_corners)",
        ("resize",),
        "With aligned corners the first and the last pixels stay where they are; without, the "
        "edges of the maps coincide. torch, Keras and ONNX do not align by default, Flux's "
        "Upsample does.",
        "PyTorch documentation of Upsample; NNlib documentation of upsample_bilinear; PyTorch "
        "issue 10604",
        'nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)',
        "x -> NNlib.upsample_bilinear(x, (2, 2); align_corners=false)",
    ),
    Difference(
        "antialiasing in resizing",
        ("resize",),
        "Pillow, and torchvision by default, average over all old pixels that a new one covers "
        "when they make an image smaller; torch's interpolate, NNlib and ONNX take the nearest "
        "ones only.",
        "torchvision issue 2950; PyTorch documentation of torch.nn.functional.interpolate",
        "F.interpolate(..., antialias=...)",
        "resize the images before, with the same library for both models",
    ),
    Difference(
        "stride",
        (*CONVS, *POOLS),
        "The stride is another one, or on another layer: in a bottleneck, ResNet has it on the "
        "first 1x1 convolution, torchvision's ResNet (v1.5) on the 3x3 one.",
        "torchvision issue 191; Metalhead pull request 114",
        "Conv2d(..., stride=...)",
        "Conv(...; stride=...)",
    ),
    Difference(
        "dilation",
        CONVS,
        "The taps of the kernel are another number of pixels apart.",
        "PyTorch documentation of Conv2d; Flux documentation of Conv",
        "Conv2d(..., dilation=...)",
        "Conv(...; dilation=...)",
    ),
    Difference(
        "groups",
        CONVS,
        "The channels are divided into another number of groups: torch and Flux store (in / "
        "groups) channels for each output, and a depthwise kernel is one with as many groups as "
        "channels.",
        "PyTorch documentation of Conv2d, groups; Flux documentation of DepthwiseConv",
        "Conv2d(..., groups=...)",
        "Conv(...; groups=...)",
    ),
    Difference(
        "missing bias",
        (*CONVS, "dense"),
        "One model adds a bias that the other does not have.",
        "PyTorch and Flux have biases by default, most MobileNets none before a norm",
        "bias=False",
        "Conv(...; bias=false)",
    ),
    Difference(
        "additional bias",
        (*CONVS, "dense"),
        "The second model adds a bias that the first does not have.",
        "PyTorch and Flux have biases by default, most MobileNets none before a norm",
        "bias=False",
        "Conv(...; bias=false)",
    ),
    Difference(
        "form of layer norm",
        ("layer_norm",),
        "torch adds eps to the variance, Flux its square: the same eps makes another norm. Others "
        "add eps to the deviation, or use the unbiased deviation.",
        "source of Flux.normalise; Flux pull request 2421; Flux issue 529; BERT-pytorch issue 30",
        "nn.LayerNorm(size, eps=flux_eps**2)",
        "LayerNorm(size; eps=sqrt(torch_eps))",
    ),
    Difference(
        "eps of a norm",
        NORMS,
        "torch and Flux use 1e-5, Keras 1e-3, timm's TensorFlow ports 1e-3. Flux's constant is a "
        "Float32 number also in a Float64 model.",
        "documentation of BatchNorm in PyTorch, Keras and Flux; nn-transfer pull request 3",
        "BatchNorm2d(..., eps=...)",
        "BatchNorm(...; eps=...)",
    ),
    Difference(
        "norm in training mode",
        ("batch_norm",),
        "A norm in training mode uses the statistics of the batch, not the running ones. Flux uses "
        "training mode inside a gradient call only, unless `trainmode!` is called.",
        "PyTorch documentation of Module.eval; Flux documentation of testmode!",
        "module.eval()",
        "testmode!(model)",
    ),
    Difference(
        "parameters of a norm",
        NORMS,
        "Scale, shift, mean or variance is missing, exchanged, or stored in another form. MXNet "
        "ignores a stored scale with fix_gamma, TF-slim has none by default.",
        "MXNet issue 15717; documentation of tf_slim.batch_norm, scale",
        "check weight, bias, running_mean, running_var",
        "check the fields for scale, shift, mean and variance",
    ),
    Difference(
        "activation function",
        ("activation",),
        "The functions differ, for example ReLU and ReLU6, or the exact GELU and its approximation "
        "by tanh, or the slope of a leaky ReLU (torch and Flux 0.01, Keras 0.3).",
        "documentation of the activation functions in PyTorch, NNlib and Keras; nanoGPT issue 2",
        "nn.ReLU6(), nn.GELU(approximate=...), ...",
        "relu6, gelu_tanh, ...",
    ),
    Difference(
        "softmax",
        ("softmax", "log_softmax"),
        "One model returns probabilities where the other returns logits or log-probabilities, or "
        "the softmax is taken along another axis.",
        "PyTorch documentation of CrossEntropyLoss, which expects logits",
        "return logits",
        "Flux.logitcrossentropy and no softmax",
    ),
    Difference(
        "weights in half precision",
        (*CONVS, "dense"),
        "The weights were rounded to float16, bfloat16 or float32, or products are in TF32.",
        "PyTorch documentation: TensorFloat-32; torch.backends.cuda.matmul.allow_tf32",
        "load float32 weights; torch.set_float32_matmul_precision('highest')",
        "load Float32 weights",
    ),
    Difference(
        "settings of the layer",
        (*CONVS, *POOLS, "resize", *NORMS, "activation", "softmax"),
        "Both layers say how they are built, and say different things.",
        "the documentation of the layer in both frameworks",
        "the value that the other model shows",
        "the value that the other model shows",
        is_general=True,
    ),
    Difference(
        "other weights",
        (*CONVS, "dense", *NORMS),
        "The layers are built alike and hold other values: the weights were not carried over, or "
        "the models were trained apart.",
        "PyTorch documentation of load_state_dict, strict; Flux documentation of loadmodel!",
        "module.load_state_dict(...)",
        "Flux.loadmodel!(model, ...)",
        is_general=True,
    ),
    *STRUCTURE_DIFFERENCES,
    *TRAINING_DIFFERENCES,
    *OPTIMIZER_DIFFERENCES,
)
"""Specific differences first: the first that explains an output is reported."""
