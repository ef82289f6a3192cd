"A block: its units by role, `(; depthwise, pointwise)` in V1."
const Block{T} = NamedTuple{roles,<:Tuple{Vararg{ConvNormAct{T}}}} where {roles}

"""
    MobileNet(config::MobileNetConfig; seed=0, dtype=Float32, init=:he, kernels=:fast)

A Flux model with the architecture of `config` and the initial weights of `seed`, the same bits as in Python.

`model(x)` is the logits (classes, N) of images `x` (W, H, C, N) of element type `dtype`, always in evaluation mode
and before a softmax of the config. See [`predict`](@ref), [`loss_and_grads`](@ref), [`train_step!`](@ref) and
[`fit!`](@ref) for the rest.

# Arguments

- `seed`: of the random weights, a whole number in [0, 2^64).
- `dtype`: `Float32` or `Float64`. Initial values are rounded to `Float32` in both: a seed denotes one model, not
  one for each precision.
- `init`: the rule of the initial weights, named after the framework that uses it for these layers. With
  fan_in = I/groups * kH * kW and fan_out = O * kH * kW (features and classes for the classifier):
  - `:he`: convolutions uniform in ±sqrt(6 / fan_in), He et al., arXiv:1502.01852; the classifier's weight uniform
    in ±1/sqrt(fan_in), its bias zero.
  - `:torch`: `nn.Conv2d` and `nn.Linear`: uniform in ±1/sqrt(fan_in), the classifier's bias too.
  - `:flux`: `Flux.glorot_uniform`, ±sqrt(6 / (fan_in + fan_out)); bias zero.
  - `:torchvision`: its MobileNetV2 (models/mobilenetv2.py): convolutions normal with standard deviation
    sqrt(2 / fan_out), the classifier's weight normal with 0.01; bias zero.
  - `:keras`: `GlorotUniform`. Keras exchanges the two fans of a depthwise kernel, but not their sum, so the
    weights are those of `:flux`.
  Norms start with weight 1, bias 0, running mean 0 and running variance 1.
- `kernels`: `:fast`, the kernels of this package, or `:reference`, NNlib's convolutions and plain broadcasts, which
  require Flux to be loaded.

Options are symbols or strings. Throws a `ConfigError` for a negative seed, an unknown rule or unknown kernels, and
any other `dtype`.

# Fields

`config`, `stem`, `blocks`, `head` (`nothing` except in V2), `classifier`, `kernels`. Canonical names count blocks
from 0: `model.blocks[4].depthwise.conv.weight` is the tensor `blocks.3.depthwise.conv.weight`.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10); seed=1);

julia> size(model(zeros(Float32, 32, 32, 3, 2)))
(10, 2)
```
"""
struct MobileNet{T}
    config::MobileNetConfig
    stem::ConvNormAct{T}
    blocks::Vector{Block{T}}
    head::Union{Nothing,ConvNormAct{T}}
    classifier::Classifier{T}
    kernels::Symbol
end
# For Functors, which rebuilds `blocks` as a vector of another element type.
MobileNet(config, stem::ConvNormAct{T}, blocks::Vector, head, classifier, kernels) where {T} =
    MobileNet{T}(config, stem, blocks, head, classifier, kernels)
Optimisers.trainable(model::MobileNet) = (; model.stem, model.blocks, model.head, model.classifier)

(model::MobileNet)(x) = forward(model, x)

Base.eltype(::MobileNet{T}) where {T} = T

Base.show(io::IO, model::MobileNet) =
    print(io, "MobileNet{", eltype(model), "}(", to_json(model.config), ")")

"Names of the kernels that a model can use."
const KERNELS = ("fast", "reference")

kernels_of(model::MobileNet, workspace) =
    model.kernels == :fast ? FastKernels(workspace) : ReferenceKernels()
@non_differentiable kernels_of(::Any, ::Any)

"A model with uninitialised parameters and running statistics."
function undefined_model(config::MobileNetConfig, ::Type{T}, kernels=:fast) where {T}
    kernels = Symbol(checked_choice("kernels", kernels, KERNELS))
    blocks = [undefined_block(config, group, T) for group in layer_groups(config)]
    head = haskey(last(blocks), :head) ? pop!(blocks).head : nothing
    stem = popfirst!(blocks).stem
    weight = Matrix{T}(undef, feature_channels(config), config.num_classes)
    classifier = Classifier(weight, Vector{T}(undef, config.num_classes))
    return MobileNet{T}(config, stem, blocks, head, classifier, kernels)
end

function undefined_block(config, group, ::Type{T}) where {T}
    roles = Tuple(Symbol(last(block_and_role(layer.name))) for layer in group)
    return NamedTuple{roles}(Tuple(undefined_unit(config, layer, T) for layer in group))
end

function undefined_unit(config, layer::Layer, ::Type{T}) where {T}
    weight = Array{T}(undef, weight_shape(layer))
    conv = CrossConv(weight, layer.stride, layer.padding, layer.groups)
    vectors = (Vector{T}(undef, layer.out_channels) for _ in 1:4)
    norm = Norm(vectors..., config.norm_eps, config.norm_momentum)
    clip_value = !layer.activation ? nothing : config.activation == "relu6" ? 6.0 : Inf
    return ConvNormAct(layer.name, conv, norm, clip_value, layer.residual)
end

"The units of a model in order, in tuples: the stem, each block, V2's head."
function unit_groups(model::MobileNet{T}) where {T}
    groups = Tuple{Vararg{ConvNormAct{T}}}[(model.stem,)]
    append!(groups, values.(model.blocks))
    return isnothing(model.head) ? groups : push!(groups, (model.head,))
end

"The units of a model in order."
units(model) = [unit for group in unit_groups(model) for unit in group]

"(width, height) of the last feature map, from the units of the model instead of the layers of its config."
function Configs.last_map_size(model::MobileNet, width, height)
    for group in unit_groups(model), (; conv) in group
        width, height = output_size(conv, width), output_size(conv, height)
    end
    return width, height
end

"""
    MobileNets.forward(model, x; train=false, masks=nothing, hook=nothing)

The logits (classes, N) of images `x` (W, H, C, N), without checks of `x`. With `train`, norms use the statistics of
the batch; the running statistics do not change. `masks` are those of [`loss_and_grads`](@ref).

`hook(name, array)` is called with every activation by its canonical name, as maps (W, H, C, N) until the pooling;
in training mode also with the batch's mean and biased variance as `<unit>.norm.batch_mean` and
`<unit>.norm.batch_var` (`Vector{Float64}`).

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> names = String[];

julia> MobileNets.forward(model, ones(Float32, 32, 32, 3, 2); hook=(name, _) -> push!(names, name));

julia> names == activation_names(model.config)
true
```
"""
function forward(model::MobileNet, x; train=false, masks=nothing, hook=nothing)
    return run_forward(model, x, new_pass(model, AllocatingWorkspace(); train, masks, hook))
end

function run_forward(model, x, pass)
    scores = logits(model, x, pass)
    model.config.softmax && call_hook(() -> softmax(scores), pass, "probabilities")
    return scores
end

function new_pass(model, workspace; masks=nothing, options...)
    kernels = kernels_of(model, workspace)
    masks = something(masks, Dict{String,Array}())
    activation_masks = Dict{String,Array{UInt8,4}}(
        name => images_to_maps(kernels, mask) for (name, mask) in masks if name != DROPOUT
    )
    return ForwardPass{eltype(model)}(;
        kernels, masks=activation_masks, dropout=get(masks, DROPOUT, nothing), options...
    )
end
@non_differentiable new_pass(::Any...)

"The key in `masks` of the dropout factors (C, N) of the pooled features."
const DROPOUT = "dropout"

function logits(model::MobileNet, x, pass::ForwardPass)
    x = taped_call(pass, images_to_maps, pass.kernels, x)
    x = apply_block((model.stem,), x, pass)
    for block in model.blocks
        x = apply_block(block, x, pass)
    end
    isnothing(model.head) || (x = apply_block((model.head,), x, pass))
    return classify(model.classifier, x, pass)
end

"The logits (classes, N) of the maps before the pooling, in the layout of the kernels."
function classify(classifier, x, pass::ForwardPass)
    features = taped_call(pass, global_mean, pass.kernels, x)
    call_hook(() -> features, pass, "pool")
    features = taped_call(pass, apply_dropout, features, pass.dropout)
    scores = taped_call(pass, linear, features, classifier.weight, classifier.bias, workspace_of(pass.kernels))
    call_hook(() -> scores, pass, "logits")
    return scores
end
