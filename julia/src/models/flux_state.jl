# The `Flux.state` of a stock model: nested tuples of arrays and numbers, in which layers are recognised by their
# fields and paired with the layers of a config by order and size.

"A layer in a state: its path and its fields."
struct FluxLeaf
    path::String
    fields::NamedTuple
end

"The layers of a state in order, by kind; `others` are the paths of arrays outside such layers."
struct FluxLeaves
    convs::Vector{FluxLeaf}
    norms::Vector{FluxLeaf}
    denses::Vector{FluxLeaf}
    dropouts::Vector{FluxLeaf}
    others::Vector{String}
end

"Flux's name of a norm's array => the canonical name."
const NORM_FIELDS =
    (:γ => "weight", :β => "bias", :μ => "running_mean", :σ² => "running_var")

"""
The layers in the `Flux.state` of a model, in order, for any nesting.

A `NamedTuple` is a `Conv` if it has a `weight` of four axes, a `Dense` if it has one of two, a `BatchNorm` if it has
`μ` and `σ²`, a `Dropout` if it has a number `p`. Activations are not part of a state.
"""
function flux_leaves(state)
    leaves = FluxLeaves((FluxLeaf[] for _ in 1:4)..., String[])
    collect_leaves!(leaves, state, "state")
    return leaves
end

function collect_leaves!(leaves, @nospecialize(node), path)
    if node isa NamedTuple
        same_kind = leaves_of_kind(leaves, node)
        isnothing(same_kind) || return push!(same_kind, FluxLeaf(path, node))
    elseif node isa AbstractArray{<:Number}
        return push!(leaves.others, path)
    elseif node isa Union{Number,Nothing,AbstractString,Symbol}
        return nothing
    elseif !(node isa Union{Tuple,AbstractVector})
        throw(WeightsError("$path must be a tuple, an array or a number. Received: $(typeof(node))"))
    end
    for key in keys(node)
        collect_leaves!(leaves, node[key], key isa Symbol ? "$path.$key" : "$path[$key]")
    end
end

"The list for a layer with these fields; `nothing` for the fields of any other object."
function leaves_of_kind(leaves, @nospecialize(fields::NamedTuple))
    weight = get(fields, :weight, nothing)
    weight isa AbstractArray{<:Number,4} && return leaves.convs
    weight isa AbstractMatrix{<:Number} && return leaves.denses
    get(fields, :p, nothing) isa Real && return leaves.dropouts
    return haskey(fields, :μ) && haskey(fields, :σ²) ? leaves.norms : nothing
end

"""
The (layer, `Conv`, `BatchNorm`) of each layer of `config`, and the `Dense`. Throws a `WeightsError` if there are too
many or too few.
"""
function paired_leaves(config, state, source)
    table, leaves = layers(config), flux_leaves(state)
    for (kind, of_kind, count) in (
        ("Conv", leaves.convs, length(table)), ("BatchNorm", leaves.norms, length(table)),
        ("Dense", leaves.denses, 1),
    )
        length(of_kind) == count || throw(WeightsError(
            "$source: $(to_json(config)) has $count $kind. Received: $(length(of_kind)), of them " *
            "left over $(truncated([leaf.path for leaf in of_kind[(count + 1):end]]))",
        ))
    end
    isempty(leaves.others) || throw(WeightsError(
        "$source: arrays must belong to a Conv, BatchNorm or Dense. Left over: $(truncated(leaves.others))"
    ))
    return collect(zip(table, leaves.convs, leaves.norms)), only(leaves.denses)
end

"""
    MobileNets.from_flux_state(config, state; source="state")

The canonical state, a `Dict` of name => array, in the `Flux.state` of a stock Flux model with any nesting: its
`Conv`, `BatchNorm` and `Dense` layers are paired in order with those of `config` and must have the same sizes.
`source` is named in errors.

The bias of a `Conv`, which the norm after it cancels, is subtracted from the running mean; no output changes, in
training mode either. A state does not contain the positions of the activations: the weights of a model with an
activation between `Conv` and `BatchNorm` are read, but the model computes something else.

Throws a `WeightsError` that names the layer if one is missing, unexpected, of another size or without statistics,
and as [`MobileNets.check_state`](@ref) does.

```jldoctest
julia> using Flux

julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> state = Flux.state(MobileNets.flux_chain(model));

julia> MobileNets.from_flux_state(model.config, state) == Dict(get_state(model))
true
```
"""
function from_flux_state(config::MobileNetConfig, state; source="state")
    units, dense = paired_leaves(config, state, source)
    tensors = Dict{String,Array}()
    for unit in units
        add_unit!(tensors, unit..., source)
    end
    (inputs, classes) = feature_channels(config), config.num_classes
    weight = dense_weight(required_array(dense, :weight, (classes, inputs), source))
    tensors["classifier.weight"] = weight
    bias = optional_array(dense, :bias, (classes,), source)
    tensors["classifier.bias"] = isnothing(bias) ? zeros(eltype(weight), classes) : Array(bias)
    check_state(config, tensors, eltype(weight); source)
    return tensors
end

function add_unit!(tensors, layer, conv, norm, source)
    name, channels = layer.name, (layer.out_channels,)
    tensors["$name.conv.weight"] = flip_kernel(required_array(conv, :weight, weight_shape(layer), source))
    mean = Array(required_array(norm, :μ, channels, source))
    bias = optional_array(conv, :bias, channels, source)
    isnothing(bias) || (mean .-= bias)
    scale, shift = optional_array(norm, :γ, channels, source), optional_array(norm, :β, channels, source)
    tensors["$name.norm.weight"] = isnothing(scale) ? fill!(similar(mean), 1) : Array(scale)
    tensors["$name.norm.bias"] = isnothing(shift) ? fill!(similar(mean), 0) : Array(shift)
    tensors["$name.norm.running_mean"] = mean
    tensors["$name.norm.running_var"] = Array(required_array(norm, :σ², channels, source))
    return tensors
end

"An array that a layer must have; throws a `WeightsError` if it is missing or of another size."
function required_array(leaf, field, shape, source)
    value = get(leaf.fields, field, nothing)
    received = value isa AbstractArray ? size(value) : repr(value)
    received == shape && return value
    throw(WeightsError("$source: $(leaf.path).$field must have shape $shape. Received: $received"))
end

"An array that a layer may have; `nothing` if it has none, which in Flux is `false` or `nothing`."
function optional_array(leaf, field, shape, source)
    value = get(leaf.fields, field, nothing)
    return value === false || isnothing(value) ? nothing : required_array(leaf, field, shape, source)
end
