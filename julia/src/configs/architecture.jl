"""
Howard et al., arXiv:1704.04861, table 1, without the stem: stages of `repeats` depthwise separable blocks, of
which the first has `stride` and the others stride 1. The table prints stride 2 for the last depthwise layer
too, but its own output size of 7x7 requires 1.
"""
const V1 = (
    (channels=64, stride=1, repeats=1),
    (channels=128, stride=2, repeats=2),
    (channels=256, stride=2, repeats=2),
    (channels=512, stride=2, repeats=6),
    (channels=1024, stride=2, repeats=2),
)

"The model of the Flux case study: V1 with one block of 512 channels less."
const V1_BOTTLENECK = (
    (channels=64, stride=1, repeats=1),
    (channels=128, stride=2, repeats=2),
    (channels=256, stride=2, repeats=2),
    (channels=512, stride=2, repeats=5),
    (channels=1024, stride=2, repeats=2),
)

"""
Sandler et al., arXiv:1801.04381, table 2, without the stem and the last 1x1 convolution: stages of inverted
residual blocks, whose hidden width is `expansion` times their input width.
"""
const V2 = (
    (expansion=1, channels=16, stride=1, repeats=1),
    (expansion=6, channels=24, stride=2, repeats=2),
    (expansion=6, channels=32, stride=2, repeats=3),
    (expansion=6, channels=64, stride=2, repeats=4),
    (expansion=6, channels=96, stride=1, repeats=3),
    (expansion=6, channels=160, stride=2, repeats=3),
    (expansion=6, channels=320, stride=1, repeats=1),
)

"""
Channels of the last 1x1 convolution, for every width multiplier up to 1: of V2 as in torchvision, Keras, and section
6.1 of the paper; of V1 with `head_conv` as in timm, models/efficientnet.py.
"""
const HEAD_CHANNELS = Dict("v1" => 1024, "v2" => 1280)

"""
One row of the architecture: a convolution without bias, its norm and its activation.

`name` is the canonical name: the tensors are `<name>.conv.weight` of size
`(kernel, kernel, in_channels ÷ groups, out_channels)` and `<name>.norm.*` of size `(out_channels,)`. `padding`
is the number of zeros (before, after) on both axes: left and above, right and below. A layer without
`activation` is linear. If `residual`, the input of the block is added to the output of the layer.
"""
Base.@kwdef struct Layer
    name::String
    in_channels::Int
    out_channels::Int
    kernel::Int
    stride::Int
    padding::NTuple{2,Int}
    groups::Int
    activation::Bool = true
    residual::Bool = false
end

"Size of the layer's weight, (kW, kH, I/groups, O)."
function weight_shape(layer::Layer)
    return (layer.kernel, layer.kernel, layer.in_channels ÷ layer.groups, layer.out_channels)
end

"Width (or height) of a convolution's output for an input of width (or height) `size`."
output_size(size, kernel, stride, padding) = fld(size + sum(padding) - kernel, stride) + 1
output_size(layer::Layer, size) = output_size(size, layer.kernel, layer.stride, layer.padding)

"Block and role in a layer's name: `(blocks.3, depthwise)`; `(stem, stem)` for a layer outside the blocks."
function block_and_role(name)
    fields = rsplit(name, '.'; limit=2)
    return String(first(fields)), String(last(fields))
end

"`channels` after the width multiplier and the rounding; throws a `ConfigError` if none is left."
function scaled_channels(config, channels)
    width = rounded(channels, config.width_mult, config.rounding)
    width >= 1 && return width
    throw(ConfigError("width_mult $(config.width_mult) leaves none of $channels channels"))
end

"""
    MobileNets.layers(config)

The layers before the pooling in order, a vector of `Layer`: `stem`, the layers of each block, and V2's `head`.

```jldoctest
julia> [layer.name for layer in MobileNets.layers(MobileNetConfig())][1:3]
3-element Vector{String}:
 "stem"
 "blocks.0.depthwise"
 "blocks.0.pointwise"

julia> [layer.name for layer in MobileNets.layers(MobileNetConfig(family=:v2))][4:6]
3-element Vector{String}:
 "blocks.1.expand"
 "blocks.1.depthwise"
 "blocks.1.project"
```
"""
layers(config::MobileNetConfig) = reduce(vcat, layer_groups(config))

"The layers by group: the stem, each block, and V2's head."
function layer_groups(config::MobileNetConfig)
    width = config.depth_mult > 1 ? STEM_CHANNELS : scaled_channels(config, STEM_CHANNELS)
    groups = [[conv3x3(config, "stem", config.in_channels, width, config.stem_stride, 1)]]
    stages, block_layers = FAMILY_BLOCKS[config.family]
    for stage in stages, repeat in 1:repeats(stage, stages, config)
        name, stride = "blocks.$(length(groups) - 1)", repeat == 1 ? stage.stride : 1
        stage === V2[2] && (stride = min(stride, config.stem_stride)) # the form for CIFAR
        out = scaled_channels(config, stage.channels)
        push!(groups, block_layers(config, name, stage, width, out, stride))
        width = out
    end
    if config.family == "v2" || config.head_conv
        width_mult = config.depth_mult > 1 ? 1.0 : max(1.0, config.width_mult)
        head_width = rounded(HEAD_CHANNELS[config.family], width_mult, config.rounding)
        push!(groups, [conv1x1("head", width, head_width)])
    end
    return groups
end

"The number of blocks of a stage. The depth multiplier does not apply to the first and the last."
function repeats(stage, stages, config)
    is_end = stage === first(stages) || stage === last(stages)
    return is_end ? stage.repeats : ceil(Int, stage.repeats * config.depth_mult)
end

function separable_block(config, name, stage, width, out, stride)
    return [
        conv3x3(config, "$name.depthwise", width, width, stride, width),
        conv1x1("$name.pointwise", width, out),
    ]
end

function bottleneck_block(config, name, stage, width, out, stride)
    reduced = max(1, round(Int, width * config.bottleneck_ratio))
    return [
        conv3x3(config, "$name.depthwise", width, width, stride, width),
        conv1x1("$name.reduce", width, reduced),
        conv1x1("$name.pointwise", reduced, out),
    ]
end

function inverted_block(config, name, stage, width, out, stride)
    hidden, residual = width * stage.expansion, stride == 1 && width == out
    block = [
        conv3x3(config, "$name.depthwise", hidden, hidden, stride, hidden),
        conv1x1("$name.project", hidden, out; activation=false, residual),
    ]
    stage.expansion == 1 || pushfirst!(block, conv1x1("$name.expand", width, hidden))
    return block
end

"Family => its stages, and the function that returns the layers of a block."
const FAMILY_BLOCKS = Dict(
    "v1" => (V1, separable_block),
    "v1_bottleneck" => (V1_BOTTLENECK, bottleneck_block),
    "v2" => (V2, inverted_block),
)

"A config for each list of layers that a model can have."
const TRUNKS = (
    MobileNetConfig(), MobileNetConfig(; head_conv=true), MobileNetConfig(; family="v1_bottleneck"),
    (MobileNetConfig(; family="v2", depth_mult) for depth_mult in DEPTHS)...,
)

"A 3x3 convolution."
function conv3x3(config, name, in_channels, out_channels, stride, groups)
    padding = config.padding == "keras" && stride == 2 ? (0, 1) : (1, 1)
    return Layer(; name, in_channels, out_channels, kernel=3, stride, padding, groups)
end

"A 1x1 convolution."
function conv1x1(name, in_channels, out_channels; activation=true, residual=false)
    return Layer(;
        name, in_channels, out_channels, kernel=1, stride=1, padding=(0, 0), groups=1, activation,
        residual,
    )
end

"Channels of the last feature map, which are the features of the classifier."
feature_channels(config::MobileNetConfig) = last(layers(config)).out_channels

const Shapes = Vector{Pair{String,Tuple{Vararg{Int}}}}

"""
    parameter_shapes(config)

Canonical name => size of every trained array, in the order of the layers, the classifier last. Sizes are
Julia's, torch's in reverse: `(kW, kH, I/groups, O)` for convolutions, `(in, out)` for the classifier.

```jldoctest
julia> Dict(parameter_shapes(MobileNetConfig()))["stem.conv.weight"]
(3, 3, 3, 32)
```
"""
function parameter_shapes(config::MobileNetConfig)
    shapes = Shapes()
    for layer in layers(config)
        push!(shapes, "$(layer.name).conv.weight" => weight_shape(layer))
        push!(shapes, "$(layer.name).norm.weight" => (layer.out_channels,))
        push!(shapes, "$(layer.name).norm.bias" => (layer.out_channels,))
    end
    push!(shapes, "classifier.weight" => (feature_channels(config), config.num_classes))
    push!(shapes, "classifier.bias" => (config.num_classes,))
    return shapes
end

"""
    statistic_shapes(config)

Canonical name => size of the running means and variances, in the order of the layers.

```jldoctest
julia> Dict(statistic_shapes(MobileNetConfig()))["stem.norm.running_var"]
(32,)
```
"""
function statistic_shapes(config::MobileNetConfig)
    statistics = ("running_mean", "running_var")
    return Shapes([
        "$(layer.name).norm.$statistic" => (layer.out_channels,)
        for layer in layers(config) for statistic in statistics
    ])
end

"""
    activation_names(config)

Canonical names of all activations in the order of computation: `<layer>.conv`, `<layer>.norm`, `<layer>.act`,
`<block>.add` after a residual block, then `pool`, `logits` and, with softmax, `probabilities`.

```jldoctest
julia> last(activation_names(MobileNetConfig()), 2)
2-element Vector{String}:
 "pool"
 "logits"
```
"""
function activation_names(config::MobileNetConfig)
    names = String[]
    for layer in layers(config)
        push!(names, "$(layer.name).conv", "$(layer.name).norm")
        layer.activation && push!(names, "$(layer.name).act")
        layer.residual && push!(names, "$(first(block_and_role(layer.name))).add")
    end
    push!(names, "pool", "logits")
    return config.softmax ? push!(names, "probabilities") : names
end

"""
    num_params(config)

Number of trained parameters.

```jldoctest
julia> num_params(MobileNetConfig())
4231976
```
"""
num_params(config::MobileNetConfig) = sum(prod(last(entry)) for entry in parameter_shapes(config))

"""
    mult_adds(config; size=(config.resolution, config.resolution))

Multiply-adds of the convolutions and the classifier for one image of `size` (width, height) in pixels, the
count of the paper.

```jldoctest
julia> mult_adds(MobileNetConfig())
568740352
```
"""
function mult_adds(config::MobileNetConfig; size=(config.resolution, config.resolution))
    total = 0
    for layer in layers(config)
        size = map(pixels -> output_size(layer, pixels), size)
        total += prod(weight_shape(layer)) * prod(size)
    end
    return total + config.num_classes * feature_channels(config)
end

"(width, height) of the last feature map, for images of `width` x `height` pixels."
function last_map_size(config::MobileNetConfig, width, height)
    return foldl((size, layer) -> output_size.(Ref(layer), size), layers(config); init=(width, height))
end
