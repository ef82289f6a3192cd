"""
Howard et al., arXiv:1704.04861, table 1, without the stem: stages of `repeats` depthwise separable
blocks, only the first of which has `stride`. The table prints stride 2 for the last depthwise layer
too, where its own output size of 7x7 requires 1.
"""
const V1 = (
    (channels=64, stride=1, repeats=1),
    (channels=128, stride=2, repeats=2),
    (channels=256, stride=2, repeats=2),
    (channels=512, stride=2, repeats=6),
    (channels=1024, stride=2, repeats=2),
)

"The Flux case study's net: one block of 512 channels fewer than V1."
const V1_BOTTLENECK = (
    (channels=64, stride=1, repeats=1),
    (channels=128, stride=2, repeats=2),
    (channels=256, stride=2, repeats=2),
    (channels=512, stride=2, repeats=5),
    (channels=1024, stride=2, repeats=2),
)

"""
Sandler et al., arXiv:1801.04381, table 2, without the stem and the last 1x1 convolution: stages of
inverted residual blocks, `expansion` times as wide inside as at their input.
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
Channels of V2's last convolution, at any width multiplier up to 1 (torchvision and Keras; the paper
leaves them as they are below 1, section 6.1).
"""
const HEAD_CHANNELS = 1280

"""
A convolution without bias, its norm and its activation: the unit all blocks are made of.

`name` is the canonical name of the unit: its tensors are `<name>.conv.weight` of size
`(kernel, kernel, in_channels ÷ groups, out_channels)` and `<name>.norm.*` of size
`(out_channels,)`. `padding` are the zeros (before, after): to the left and above, to the right and
below. Without `activation` the unit is linear. `residual` says that the input of the unit's block is
added to its output.
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

"Size of the layer's weight, (kW, kH, I/g, O)."
function weight_shape(layer::Layer)
    return (layer.kernel, layer.kernel, layer.in_channels ÷ layer.groups, layer.out_channels)
end

"Columns (or rows) of a convolution's output for `size` columns (or rows) of input."
output_size(size, kernel, stride, padding) = fld(size + sum(padding) - kernel, stride) + 1
output_size(layer::Layer, size) = output_size(size, layer.kernel, layer.stride, layer.padding)

"The parts of a unit's name: `(blocks.3, depthwise)`; `(stem, stem)` for a unit in no block."
function name_parts(name)
    parts = rsplit(name, '.'; limit=2)
    return String(first(parts)), String(last(parts))
end

"`channels` after the width multiplier and the rounding, at least 1."
function scaled(config, channels)
    width = rounded(channels, config.width_mult, config.rounding)
    width >= 1 && return width
    throw(ConfigError("width_mult $(config.width_mult) leaves none of $channels channels"))
end

"""
    layers(config)

The layers before the pooling, in order: `stem`, then those of each block, then V2's `head`.

```jldoctest
julia> [layer.name for layer in layers(MobileNetConfig())][1:3]
3-element Vector{String}:
 "stem"
 "blocks.0.depthwise"
 "blocks.0.pointwise"

julia> [layer.name for layer in layers(MobileNetConfig(family="v2"))][4:6]
3-element Vector{String}:
 "blocks.1.expand"
 "blocks.1.depthwise"
 "blocks.1.project"
```
"""
layers(config::MobileNetConfig) = reduce(vcat, sections(config))

"The layers in sections: the stem alone, the blocks one by one, V2's head alone."
function sections(config::MobileNetConfig)
    width = scaled(config, STEM_CHANNELS)
    found = [[spatial(config, "stem", config.in_channels, width, config.stem_stride, 1)]]
    stages, block = FAMILY_BLOCKS[config.family]
    for stage in stages, repeat in 1:stage.repeats
        name, stride = "blocks.$(length(found) - 1)", repeat == 1 ? stage.stride : 1
        stage === V2[2] && (stride = min(stride, config.stem_stride)) # the CIFAR form
        out = scaled(config, stage.channels)
        push!(found, block(config, name, stage, width, out, stride))
        width = out
    end
    if config.family == "v2"
        last = rounded(HEAD_CHANNELS, max(1.0, config.width_mult), config.rounding)
        push!(found, [mixing("head", width, last)])
    end
    return found
end

function separable_block(config, name, stage, width, out, stride)
    return [
        spatial(config, "$name.depthwise", width, width, stride, width),
        mixing("$name.pointwise", width, out),
    ]
end

function bottleneck_block(config, name, stage, width, out, stride)
    reduced = max(1, round(Int, width * config.bottleneck_ratio))
    return [
        spatial(config, "$name.depthwise", width, width, stride, width),
        mixing("$name.reduce", width, reduced),
        mixing("$name.pointwise", reduced, out),
    ]
end

function inverted_block(config, name, stage, width, out, stride)
    hidden, residual = width * stage.expansion, stride == 1 && width == out
    block = [
        spatial(config, "$name.depthwise", hidden, hidden, stride, hidden),
        mixing("$name.project", hidden, out; activation=false, residual),
    ]
    stage.expansion == 1 || pushfirst!(block, mixing("$name.expand", width, hidden))
    return block
end

"The stages of a family and the layers of its blocks."
const FAMILY_BLOCKS = Dict(
    "v1" => (V1, separable_block),
    "v1_bottleneck" => (V1_BOTTLENECK, bottleneck_block),
    "v2" => (V2, inverted_block),
)

"A 3x3 convolution."
function spatial(config, name, in_channels, out_channels, stride, groups)
    padding = config.padding == "keras" && stride == 2 ? (0, 1) : (1, 1)
    return Layer(; name, in_channels, out_channels, kernel=3, stride, padding, groups)
end

"A 1x1 convolution."
function mixing(name, in_channels, out_channels; activation=true, residual=false)
    return Layer(;
        name, in_channels, out_channels, kernel=1, stride=1, padding=(0, 0), groups=1, activation,
        residual,
    )
end

"Channels of the last map, which the classifier reads after pooling."
feature_channels(config::MobileNetConfig) = last(layers(config)).out_channels

const Shapes = Vector{Pair{String,Tuple{Vararg{Int}}}}

"""
    parameter_shapes(config)

Canonical name => size of everything that is trained, in the order of the layers. Sizes are Julia's,
torch's in reverse.
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

Canonical name => size of the running statistics, in the order of the layers.
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

Names of all activations in the order they are computed.
"""
function activation_names(config::MobileNetConfig)
    names = String[]
    for layer in layers(config)
        push!(names, "$(layer.name).conv", "$(layer.name).norm")
        layer.activation && push!(names, "$(layer.name).act")
        layer.residual && push!(names, "$(first(name_parts(layer.name))).add")
    end
    push!(names, "pool", "logits")
    return config.softmax ? push!(names, "probabilities") : names
end

"""
    num_params(config)

Number of trained values.

```jldoctest
julia> num_params(MobileNetConfig())
4231976
```
"""
num_params(config::MobileNetConfig) = sum(prod(last(entry)) for entry in parameter_shapes(config))

"""
    mult_adds(config; size=(config.resolution, config.resolution))

Multiply-adds of the convolutions and the classifier for one image of `size` (width, height) in
pixels, as the paper counts.

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

"(columns, rows) of the map that is pooled, for images of `width` x `height` pixels."
function last_map_size(config::MobileNetConfig, width, height)
    return foldl((size, layer) -> output_size.(Ref(layer), size), layers(config); init=(width, height))
end
