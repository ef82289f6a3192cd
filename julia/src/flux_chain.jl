# The same nets in Flux's own layers, and what `Flux.state` holds of such a net. Flux's Conv flips its
# kernel, its Dense is (out, in), its BatchNorm has Float32 constants unless told otherwise.

"A kernel (kW, kH, I/g, O) as `Flux.Conv` holds it, which flips it; and back."
flipped(weight) = reverse(weight; dims=(1, 2))

const FLUX_ACTIVATIONS = Dict("relu6" => NNlib.relu6, "relu" => NNlib.relu)

"""
    MobileNets.flux_chain(model)

The model as a stock `Flux.Chain` of `Conv`, `BatchNorm`, `GlobalMeanPool`, `Flux.flatten` and `Dense`,
with copies of its weights: the same outputs, to rounding. Residual blocks are `SkipConnection`s, dropout
and softmax are there where the config has them. `eps` and `momentum` are in the model's type.
`Flux.state` of it is what other users of Flux save and load.

```jldoctest
julia> model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> x = ones(Float32, 32, 32, 3, 2);

julia> MobileNets.flux_chain(model)(x) ≈ predict(model, x)
true
```
"""
function flux_chain(model::MobileNet{T}) where {T}
    config, state = model.config, Dict(get_state(model))
    parts = Any[]
    for section in sections(config)
        units = reduce(vcat, flux_unit(config, layer, state, T) for layer in section)
        last(section).residual && (units = [Flux.SkipConnection(Flux.Chain(units...), +)])
        append!(parts, units)
    end
    push!(parts, Flux.GlobalMeanPool(), Flux.flatten)
    config.dropout > 0 && push!(parts, Flux.Dropout(T(config.dropout)))
    push!(parts, Flux.Dense(dense_weight(state["classifier.weight"]), copy(state["classifier.bias"])))
    config.softmax && push!(parts, NNlib.softmax)
    return Flux.Chain(parts...)
end

"The classifier's weight (in, out) as `Flux.Dense` holds it, (out, in); and back."
dense_weight(weight) = permutedims(weight)

function flux_unit(config, layer, state, ::Type{T}) where {T}
    tensor(part) = copy(state["$(layer.name).$part"])
    (; stride, padding, groups, out_channels) = layer
    weight = flipped(tensor("conv.weight"))
    conv = Flux.Conv(weight, false; stride, groups, pad=(padding..., padding...))
    norm = Flux.BatchNorm(
        layer.activation ? FLUX_ACTIVATIONS[config.activation] : identity,
        tensor("norm.bias"), tensor("norm.weight"), tensor("norm.running_mean"),
        tensor("norm.running_var"), T(config.norm_eps), T(config.norm_momentum), true, true, nothing,
        out_channels,
    )
    return Any[conv, norm]
end

"""
    MobileNets.load_flux!(chain, model)

Copy a model's weights into a stock Flux model whose layers are those of its config, whatever its nesting:
one from `flux_chain`, from Metalhead or written by hand. Biases of its `Conv`s become zero. Throws a
`WeightsError` for a model that cannot hold the weights, before any is copied.
"""
function load_flux!(chain, model::MobileNet)
    config, state = model.config, Dict(get_state(model))
    units, dense = paired_leaves(config, Flux.state(chain), "chain") # the chain's own arrays
    copies = Pair[]
    give(leaf, field, array) = push!(copies, held(leaf, field, size(array), "chain") => array)
    for (layer, conv, norm) in units
        give(conv, :weight, flipped(state["$(layer.name).conv.weight"]))
        get(conv.fields, :bias, nothing) isa AbstractArray &&
            give(conv, :bias, zeros(eltype(model), layer.out_channels))
        for (field, part) in NORM_FIELDS
            give(norm, field, state["$(layer.name).norm.$part"])
        end
    end
    give(dense, :weight, dense_weight(state["classifier.weight"]))
    give(dense, :bias, state["classifier.bias"])
    foreach(pair -> copyto!(first(pair), last(pair)), copies)
    return chain
end
