# What `Flux.state` holds of a stock model: nested tuples of arrays and numbers, in which its layers are
# found by their fields and paired with those of a config by order and size.

"A layer found in a state: where, and its fields."
struct FluxLeaf
    path::String
    fields::NamedTuple
end

"The layers found in a state, in order, by kind; `others` are the paths of arrays in no such layer."
struct FluxLeaves
    convs::Vector{FluxLeaf}
    norms::Vector{FluxLeaf}
    denses::Vector{FluxLeaf}
    dropouts::Vector{FluxLeaf}
    others::Vector{String}
end

"Flux's name of a norm's array => its canonical one."
const NORM_FIELDS =
    (:γ => "weight", :β => "bias", :μ => "running_mean", :σ² => "running_var")

"""
The layers in what `Flux.state` holds of a model, in the order they are met, whatever its nesting.

A `Conv` is what has a `weight` of four axes, a `Dense` what has one of two, a `BatchNorm` what has `μ` and
`σ²`, a `Dropout` what has a number `p`. Activations leave nothing in a state.
"""
function flux_leaves(state)
    found = FluxLeaves((FluxLeaf[] for _ in 1:4)..., String[])
    collect_leaves!(found, state, "state")
    return found
end

function collect_leaves!(found, @nospecialize(node), path)
    if node isa NamedTuple
        leaves = leaves_for(found, node)
        isnothing(leaves) || return push!(leaves, FluxLeaf(path, node))
    elseif node isa AbstractArray{<:Number}
        return push!(found.others, path)
    elseif node isa Union{Number,Nothing,AbstractString,Symbol}
        return nothing
    elseif !(node isa Union{Tuple,AbstractVector})
        throw(WeightsError("$path must be a tuple, an array or a number. Received: $(typeof(node))"))
    end
    for key in keys(node)
        collect_leaves!(found, node[key], key isa Symbol ? "$path.$key" : "$path[$key]")
    end
end

"Where a layer with these fields belongs, or `nothing` for fields of no such layer."
function leaves_for(found, @nospecialize(fields::NamedTuple))
    weight = get(fields, :weight, nothing)
    weight isa AbstractArray{<:Number,4} && return found.convs
    weight isa AbstractMatrix{<:Number} && return found.denses
    get(fields, :p, nothing) isa Real && return found.dropouts
    return haskey(fields, :μ) && haskey(fields, :σ²) ? found.norms : nothing
end

"The `Conv` and `BatchNorm` of each layer of `config`, and the `Dense`, or what is too many or too few."
function paired_leaves(config, state, source)
    table, found = layers(config), flux_leaves(state)
    for (kind, leaves, count) in (
        ("Conv", found.convs, length(table)), ("BatchNorm", found.norms, length(table)),
        ("Dense", found.denses, 1),
    )
        length(leaves) == count || throw(WeightsError(
            "$source: $(to_json(config)) has $count $kind. Received: $(length(leaves)), of them " *
            "left over $(some([leaf.path for leaf in leaves[(count + 1):end]]))",
        ))
    end
    isempty(found.others) || throw(WeightsError(
        "$source: arrays must belong to a Conv, BatchNorm or Dense. Left over: $(some(found.others))"
    ))
    return collect(zip(table, found.convs, found.norms)), only(found.denses)
end

"""
    MobileNets.from_flux_state(config, state; source="state")

The canonical state (`Dict` of name => array) in what `Flux.state` holds of a stock Flux model, whatever its
nesting: its `Conv`, `BatchNorm` and `Dense` layers are paired with those of `config` in order, and must
have their sizes.

A `Conv` may have a bias, which the norm after it takes away again: it is subtracted from the running mean,
which leaves every output as it is, in training too. A state does not say where the activations are: a model
with one between `Conv` and `BatchNorm` gives its weights here, but computes something else.

Throws a `WeightsError` that names the layer for a state that lacks one, has one left over or of another
size, or has no statistics, and for values that [`check_state`](@ref) refuses.

```jldoctest
julia> model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> state = MobileNets.Flux.state(MobileNets.flux_chain(model));

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
    weight = dense_weight(held(dense, :weight, (classes, inputs), source))
    tensors["classifier.weight"] = weight
    bias = optional(dense, :bias, (classes,), source)
    tensors["classifier.bias"] = isnothing(bias) ? zeros(eltype(weight), classes) : Array(bias)
    check_state(config, tensors, eltype(weight); source)
    return tensors
end

function add_unit!(tensors, layer, conv, norm, source)
    name, channels = layer.name, (layer.out_channels,)
    tensors["$name.conv.weight"] = flipped(held(conv, :weight, weight_shape(layer), source))
    mean = Array(held(norm, :μ, channels, source))
    bias = optional(conv, :bias, channels, source)
    isnothing(bias) || (mean .-= bias)
    scale, shift = optional(norm, :γ, channels, source), optional(norm, :β, channels, source)
    tensors["$name.norm.weight"] = isnothing(scale) ? fill!(similar(mean), 1) : Array(scale)
    tensors["$name.norm.bias"] = isnothing(shift) ? fill!(similar(mean), 0) : Array(shift)
    tensors["$name.norm.running_mean"] = mean
    tensors["$name.norm.running_var"] = Array(held(norm, :σ², channels, source))
    return tensors
end

"The array that a layer must have."
function held(leaf, field, shape, source)
    value = get(leaf.fields, field, nothing)
    received = value isa AbstractArray ? size(value) : repr(value)
    received == shape && return value
    throw(WeightsError("$source: $(leaf.path).$field must have shape $shape. Received: $received"))
end

"The array that a layer may have; Flux has `false` or `nothing` for one it has not."
function optional(leaf, field, shape, source)
    value = get(leaf.fields, field, nothing)
    return value === false || isnothing(value) ? nothing : held(leaf, field, shape, source)
end
