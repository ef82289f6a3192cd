"A V1 block: `depthwise` and `pointwise` are its units."
const Block{T} = NamedTuple{(:depthwise, :pointwise),NTuple{2,ConvNormAct{T}}}

"""
    MobileNet(config, stem, blocks, classifier)

A MobileNet whose parameters are `Array{T}`, `T` being `Float32` or `Float64`; get one from
[`build`](@ref) or `MobileNets.load`. `model.blocks[4].depthwise.conv.weight` is the tensor
`blocks.3.depthwise.conv.weight`: canonical names count blocks from 0.

`model(x)` gives the logits (classes, N) of images `x` (W, H, C, N) in evaluation mode, always, also
inside a gradient; `forward(model, x; train=true)` is training mode.
"""
struct MobileNet{T}
    config::MobileNetConfig
    stem::ConvNormAct{T}
    blocks::Vector{Block{T}}
    classifier::Classifier{T}
end
# Not `Flux.@layer`, which would also print the model, one line for each of its 27 units.
Optimisers.trainable(model::MobileNet) = (; model.stem, model.blocks, model.classifier)

(model::MobileNet)(x) = forward(model, x)

Base.eltype(::MobileNet{T}) where {T} = T

function Base.show(io::IO, model::MobileNet)
    count = num_params(model.config)
    return print(io, "MobileNet{", eltype(model), "}(", to_json(model.config), ") # $count parameters")
end
Base.show(io::IO, ::MIME"text/plain", model::MobileNet) = show(io, model)

"A model with all parameters and running statistics uninitialised."
function undefined_model(config::MobileNetConfig, ::Type{T}) where {T}
    unit(layer) = undefined_unit(config, layer, T)
    stem, rest = Iterators.peel(layers(config))
    blocks = Block{T}[
        (depthwise=unit(depthwise), pointwise=unit(pointwise)) for
        (depthwise, pointwise) in Iterators.partition(rest, 2)
    ]
    weight = Matrix{T}(undef, feature_channels(config), config.num_classes)
    classifier = Classifier(weight, Vector{T}(undef, config.num_classes))
    return MobileNet{T}(config, unit(stem), blocks, classifier)
end

function undefined_unit(config, layer::Layer, ::Type{T}) where {T}
    weight = Array{T}(undef, weight_shape(layer))
    conv = CrossConv(weight, layer.stride, layer.padding, layer.groups)
    vectors = (Vector{T}(undef, layer.out_channels) for _ in 1:4)
    norm = Norm(vectors..., config.norm_eps, config.norm_momentum)
    return ConvNormAct(layer.name, conv, norm, config.activation == "relu6" ? 6.0 : Inf)
end

"The units of a model in order."
units(model) = [model.stem; [unit for block in model.blocks for unit in values(block)]]

"""
    forward(model, x; train=false, masks=nothing, tap=nothing)

Logits (classes, N) of images `x` (W, H, C, N), unchecked: everything else is built on this.

With `train`, norms use the batch's statistics; the running ones stay as they are. `masks` as in
[`loss_and_grads`](@ref). `tap(name, array)` is handed every activation by its canonical name, and in
training mode the batch's mean and biased variance as `<unit>.norm.batch_mean` and
`<unit>.norm.batch_var` (`Vector{Float64}`).
"""
function forward(model::MobileNet, x; train=false, masks=nothing, tap=nothing)
    return logits(model, x, new_pass(model, train, masks, tap))
end

function new_pass(model::MobileNet{T}, train, masks, tap, tape=nothing) where {T}
    masks = something(masks, Dict{String,Array}())
    units = Dict{String,Array{UInt8,4}}(pair for pair in masks if first(pair) != DROPOUT)
    tap = something(tap, Returns(nothing))
    return Pass{T}(train, units, get(masks, DROPOUT, nothing), tap, tape)
end
@non_differentiable new_pass(::Any...)

"The name in `masks` of the factors (C, N) the pooled features are multiplied with."
const DROPOUT = "dropout"

function logits(model::MobileNet, x, pass::Pass)
    x = model.stem(x, pass)
    for block in model.blocks
        x = block.depthwise(x, pass)
        x = block.pointwise(x, pass)
    end
    features = apply(pass, global_mean, x)
    record(pass, "pool", features)
    features = apply(pass, drop, features, pass.dropout)
    scores = apply(pass, linear, features, model.classifier.weight, model.classifier.bias)
    record(pass, "logits", scores)
    return scores
end
