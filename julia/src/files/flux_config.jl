# The config of a stock Flux model, from the sizes, strides and constants in its state.

"""
    MobileNets.infer_config(state; source="state", fields...)

The [`MobileNetConfig`](@ref) of the stock model with the `Flux.state` `state`: the family by the number of its
layers, `width_mult`, `rounding`, `bottleneck_ratio`, `in_channels` and `num_classes` by the sizes of its weights, and
`norm_eps`, `norm_momentum`, `stem_stride`, `padding` and, with a single `Dropout`, `dropout` as in the state. Of the
multipliers that give the same widths, a published one is preferred, then the shortest decimal. Fields that a state
does not determine, `resolution`, `activation` and `softmax`, have their default; `fields` override any field.
`source` is named in errors.

Throws a `WeightsError` if no config fits.

```jldoctest
julia> using Flux

julia> config = MobileNetConfig(width_mult=0.25, num_classes=10);

julia> MobileNets.infer_config(Flux.state(MobileNets.flux_chain(MobileNet(config)))) == config
true
```
"""
function infer_config(state; source="state", fields...)
    leaves = flux_leaves(state)
    (; convs, norms, denses) = leaves
    position = findfirst(trunk -> length(layers(trunk)) == length(convs), TRUNKS)
    isnothing(position) || isempty(norms) || length(denses) != 1 ||
        return infer_flux_config(TRUNKS[position], leaves, source; fields...)
    throw(WeightsError(
        "$source: layers must be those of a known family. Received: $(length(convs)) Conv, " *
        "$(length(norms)) BatchNorm, $(length(denses)) Dense; give the config",
    ))
end

function infer_flux_config(trunk, leaves, source; rounding=nothing, fields...)
    table = layers(trunk)
    shapes = Dict{String,Tuple{Vararg{Int}}}(
        "$(layer.name).conv.weight" => size(conv.fields.weight) for (layer, conv) in zip(table, leaves.convs)
    )
    shapes["classifier.weight"] = reverse(size(only(leaves.denses).fields.weight))
    try
        config = infer_config(trunk.family, shapes; rounding)
        return with_fields(config; flux_fields(leaves)..., fields...)
    catch error
        error isa Union{ConfigError,WeightsError} || rethrow()
        throw(WeightsError("$source: $(error.msg); give the config"))
    end
end

"The fields of a config in the strides and constants of stock layers."
function flux_fields(leaves)
    stem, norm = leaves.convs[1].fields, leaves.norms[1].fields
    fields = Dict{Symbol,Any}()
    haskey(norm, :ϵ) && (fields[:norm_eps] = decimal(norm.ϵ))
    haskey(norm, :momentum) && (fields[:norm_momentum] = decimal(norm.momentum))
    haskey(stem, :stride) && (fields[:stem_stride] = first(stem.stride))
    length(leaves.dropouts) == 1 && (fields[:dropout] = decimal(leaves.dropouts[1].fields.p))
    is_uneven(leaf) = haskey(leaf.fields, :pad) && !allequal(values(leaf.fields.pad))
    any(is_uneven, leaves.convs) && (fields[:padding] = "keras")
    return fields
end

"The fields of a config that change a model's outputs and that its `Flux.state` does not contain."
function assumed_fields(state)
    leaves = flux_leaves(state)
    fields, stem = flux_fields(leaves), leaves.convs[1].fields
    is_known = Dict(
        "stem_stride" => haskey(fields, :stem_stride), "padding" => haskey(stem, :pad),
        "norm_eps" => haskey(fields, :norm_eps),
    )
    names = ("stem_stride", "padding", "activation", "norm_eps", "resolution")
    return String[name for name in names if !get(is_known, name, false)]
end

"The `Float64` with the decimal digits of a number: 1e-5 for `1f-5`."
decimal(value::AbstractFloat) = parse(Float64, replace(string(value), 'f' => 'e'))
decimal(value) = value
