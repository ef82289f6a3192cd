const STEM_CHANNELS = 32

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

"""
A convolution without bias, its norm and its activation: the unit all blocks are made of.

`name` is the canonical name of the unit: its tensors are `<name>.conv.weight` of size
`(kernel, kernel, in_channels ÷ groups, out_channels)` and `<name>.norm.*` of size
`(out_channels,)`. Padding is symmetric, `padding` pixels on each side.
"""
Base.@kwdef struct Layer
    name::String
    in_channels::Int
    out_channels::Int
    kernel::Int
    stride::Int
    padding::Int
    groups::Int
end

"Size of the layer's weight, (kW, kH, I/g, O)."
function weight_shape(layer::Layer)
    return (layer.kernel, layer.kernel, layer.in_channels ÷ layer.groups, layer.out_channels)
end

"Columns (or rows) of a convolution's output for `size` columns (or rows) of input."
output_size(size, kernel, stride, padding) = (size + 2padding - kernel) ÷ stride + 1
output_size(layer::Layer, size) = output_size(size, layer.kernel, layer.stride, layer.padding)

"`channels` after the width multiplier: `trunc(width_mult * channels)`, at least 1."
function scaled(channels, width_mult)
    width = trunc(Int, width_mult * channels)
    width >= 1 || throw(ConfigError("width_mult $width_mult leaves none of $channels channels"))
    return width
end

"""
    layers(config)

The layers before the pooling, in order: `stem`, then each block's depthwise and pointwise.

```jldoctest
julia> [layer.name for layer in layers(MobileNetConfig())][1:3]
3-element Vector{String}:
 "stem"
 "blocks.0.depthwise"
 "blocks.0.pointwise"
```
"""
function layers(config::MobileNetConfig)
    width = scaled(STEM_CHANNELS, config.width_mult)
    table = [Layer("stem", config.in_channels, width, 3, config.stem_stride, 1, 1)]
    block = 0
    for stage in V1, repeat in 1:stage.repeats
        out = scaled(stage.channels, config.width_mult)
        stride = repeat == 1 ? stage.stride : 1
        push!(table, Layer("blocks.$block.depthwise", width, width, 3, stride, 1, width))
        push!(table, Layer("blocks.$block.pointwise", width, out, 1, 1, 0, 1))
        width, block = out, block + 1
    end
    return table
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
    parts = ("conv", "norm", "act")
    units = ["$(layer.name).$part" for layer in layers(config) for part in parts]
    return [units; "pool"; "logits"]
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
