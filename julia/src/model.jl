"A block: its units by the parts of their names, `(; depthwise, pointwise)` in V1."
const Block{T} = NamedTuple{parts,<:Tuple{Vararg{ConvNormAct{T}}}} where {parts}

"""
    MobileNet(config, stem, blocks, head, classifier, kernels)

A MobileNet whose parameters are `Array{T}`, `T` being `Float32` or `Float64`; get one from
[`build`](@ref) or `MobileNets.load`. `model.blocks[4].depthwise.conv.weight` is the tensor
`blocks.3.depthwise.conv.weight`: canonical names count blocks from 0. `head` is `nothing` but in V2.
`kernels` is one of [`KERNELS`](@ref).

`model(x)` gives the logits (classes, N) of images `x` (W, H, C, N) in evaluation mode, always, also
inside a gradient and of a model with a softmax; `forward(model, x; train=true)` is training mode.
"""
struct MobileNet{T}
    config::MobileNetConfig
    stem::ConvNormAct{T}
    blocks::Vector{Block{T}}
    head::Union{Nothing,ConvNormAct{T}}
    classifier::Classifier{T}
    kernels::Symbol
end
# For Functors, which rebuilds `blocks` as a vector of what it finds in it.
MobileNet(config, stem::ConvNormAct{T}, blocks::Vector, head, classifier, kernels) where {T} =
    MobileNet{T}(config, stem, blocks, head, classifier, kernels)
# Not `Flux.@layer`, which would also print the model, one line for each of its 27 units.
Optimisers.trainable(model::MobileNet) = (;
    model.stem, model.blocks, model.head, model.classifier
)

(model::MobileNet)(x) = forward(model, x)

Base.eltype(::MobileNet{T}) where {T} = T

function Base.show(io::IO, model::MobileNet)
    count = num_params(model.config)
    return print(io, "MobileNet{", eltype(model), "}(", to_json(model.config), ") # $count parameters")
end
Base.show(io::IO, ::MIME"text/plain", model::MobileNet) = show(io, model)

"""
What computes a model: `fast`, the kernels of this package, or `reference`, NNlib's convolutions and plain
broadcasts, which are slow and easy to check.
"""
const KERNELS = ("fast", "reference")

kernels_of(model::MobileNet, room) = model.kernels == :fast ? Fast(room) : Reference()
@non_differentiable kernels_of(::Any, ::Any)

"A model with all parameters and running statistics uninitialised."
function undefined_model(config::MobileNetConfig, ::Type{T}, kernels="fast") where {T}
    kernels = Symbol(checked_choice("kernels", kernels, KERNELS))
    found = [undefined_block(config, section, T) for section in sections(config)]
    head = config.family == "v2" ? pop!(found).head : nothing
    stem = popfirst!(found).stem
    weight = Matrix{T}(undef, feature_channels(config), config.num_classes)
    classifier = Classifier(weight, Vector{T}(undef, config.num_classes))
    return MobileNet{T}(config, stem, found, head, classifier, kernels)
end

function undefined_block(config, section, ::Type{T}) where {T}
    parts = Tuple(Symbol(last(name_parts(layer.name))) for layer in section)
    return NamedTuple{parts}(Tuple(undefined_unit(config, layer, T) for layer in section))
end

function undefined_unit(config, layer::Layer, ::Type{T}) where {T}
    weight = Array{T}(undef, weight_shape(layer))
    conv = CrossConv(weight, layer.stride, layer.padding, layer.groups)
    vectors = (Vector{T}(undef, layer.out_channels) for _ in 1:4)
    norm = Norm(vectors..., config.norm_eps, config.norm_momentum)
    ceiling = !layer.activation ? nothing : config.activation == "relu6" ? 6.0 : Inf
    return ConvNormAct(layer.name, conv, norm, ceiling, layer.residual)
end

"The units of a model in order, in tuples: the stem, each block, V2's head."
function unit_groups(model::MobileNet{T}) where {T}
    groups = Tuple{Vararg{ConvNormAct{T}}}[(model.stem,)]
    append!(groups, values.(model.blocks))
    return isnothing(model.head) ? groups : push!(groups, (model.head,))
end

"The units of a model in order."
units(model) = [unit for group in unit_groups(model) for unit in group]

"The same as of the model's config, without making the table of its layers."
function last_map_size(model::MobileNet, width, height)
    for group in unit_groups(model), (; conv) in group
        side(pixels) = output_size(pixels, size(conv.weight, 1), conv.stride, conv.padding)
        width, height = side(width), side(height)
    end
    return width, height
end

"""
    forward(model, x; train=false, masks=nothing, tap=nothing)

Logits (classes, N) of images `x` (W, H, C, N), unchecked: everything else is built on this.

With `train`, norms use the batch's statistics; the running ones stay as they are. `masks` as in
[`loss_and_grads`](@ref). `tap(name, array)` is handed every activation by its canonical name, and in
training mode the batch's mean and biased variance as `<unit>.norm.batch_mean` and
`<unit>.norm.batch_var` (`Vector{Float64}`).
"""
function forward(model::MobileNet, x; train=false, masks=nothing, tap=nothing)
    return run_forward(model, x, new_pass(model, Fresh(); train, masks, tap))
end

function run_forward(model, x, pass)
    scores = logits(model, x, pass)
    model.config.softmax && record(() -> softmax(scores), pass, "probabilities")
    return scores
end

function new_pass(model::MobileNet{T}, room; masks=nothing, options...) where {T}
    kernels = kernels_of(model, room)
    masks = something(masks, Dict{String,Array}())
    pieces = Dict{String,Array{UInt8,4}}(
        name => images_to_maps(kernels, mask) for (name, mask) in masks if name != DROPOUT
    )
    return Pass{T}(; kernels, masks=pieces, dropout=get(masks, DROPOUT, nothing), options...)
end
@non_differentiable new_pass(::Any...)

"The name in `masks` of the factors (C, N) the pooled features are multiplied with."
const DROPOUT = "dropout"

function logits(model::MobileNet, x, pass::Pass)
    x = apply(pass, images_to_maps, pass.kernels, x)
    x = through((model.stem,), x, pass)
    for block in model.blocks
        x = through(block, x, pass)
    end
    isnothing(model.head) || (x = through((model.head,), x, pass))
    features = apply(pass, global_mean, pass.kernels, x)
    record(() -> features, pass, "pool")
    features = apply(pass, drop, features, pass.dropout)
    room = room_of(pass.kernels)
    scores = apply(pass, linear, features, model.classifier.weight, model.classifier.bias, room)
    record(() -> scores, pass, "logits")
    return scores
end
