# A model in Flux's own layers, and weights copied into them. Flux's Conv flips its kernel, its Dense is (out, in), its
# BatchNorm has Float32 constants by default.

const FLUX_ACTIVATIONS = Dict("relu6" => NNlib.relu6, "relu" => NNlib.relu)

function Models.flux_chain(model::MobileNet{T}) where {T}
    config, state = model.config, Dict(get_state(model))
    flux_layers = Any[]
    for group in layer_groups(config)
        unit_layers = reduce(vcat, flux_unit(config, layer, state, T) for layer in group)
        last(group).residual && (unit_layers = [Flux.SkipConnection(Flux.Chain(unit_layers...), +)])
        append!(flux_layers, unit_layers)
    end
    push!(flux_layers, Flux.GlobalMeanPool(), Flux.flatten)
    config.dropout > 0 && push!(flux_layers, Flux.Dropout(T(config.dropout)))
    push!(
        flux_layers,
        Flux.Dense(dense_weight(state["classifier.weight"]), copy(state["classifier.bias"])),
    )
    config.softmax && push!(flux_layers, NNlib.softmax)
    return Flux.Chain(flux_layers...)
end

function flux_unit(config, layer, state, ::Type{T}) where {T}
    tensor(name) = copy(state["$(layer.name).$name"])
    (; stride, padding, groups, out_channels) = layer
    weight = flip_kernel(tensor("conv.weight"))
    conv = Flux.Conv(weight, false; stride, groups, pad=(padding..., padding...))
    norm = Flux.BatchNorm(
        layer.activation ? FLUX_ACTIVATIONS[config.activation] : identity,
        tensor("norm.bias"), tensor("norm.weight"), tensor("norm.running_mean"),
        tensor("norm.running_var"), T(config.norm_eps), T(config.norm_momentum), true, true, nothing,
        out_channels,
    )
    return Any[conv, norm]
end

function Models.load_flux!(chain, model::MobileNet)
    config, state = model.config, Dict(get_state(model))
    unit_leaves, dense = paired_leaves(config, Flux.state(chain), "chain") # the arrays of the chain itself
    copies = Pair[]
    add_copy(leaf, field, array) =
        push!(copies, required_array(leaf, field, size(array), "chain") => array)
    for (layer, conv, norm) in unit_leaves
        add_copy(conv, :weight, flip_kernel(state["$(layer.name).conv.weight"]))
        get(conv.fields, :bias, nothing) isa AbstractArray &&
            add_copy(conv, :bias, zeros(eltype(model), layer.out_channels))
        for (field, name) in NORM_FIELDS
            add_copy(norm, field, state["$(layer.name).norm.$name"])
        end
    end
    add_copy(dense, :weight, dense_weight(state["classifier.weight"]))
    add_copy(dense, :bias, state["classifier.bias"])
    foreach(pair -> copyto!(first(pair), last(pair)), copies)
    return chain
end

Models.flux_state_of(model) = Flux.state(flux_chain(model))
