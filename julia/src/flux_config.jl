# The config of a stock model's state: what the sizes, strides and constants of its layers show.

"""
    MobileNets.infer_config(state; fields...)

The config of what `Flux.state` holds of a stock model: the family by the number of its layers, the widths by
their sizes; `in_channels`, `num_classes`, `norm_eps`, `norm_momentum`, `stem_stride`, `padding` and, of a
single `Dropout`, `dropout` as the state has them. `width_mult` is a published one that gives these widths, or the one of fewest decimals, at most
four, that does. What a state does not show, `resolution`, `activation` and `softmax`, is the default, or in `fields`.

Throws a `WeightsError` where no config fits.

```jldoctest
julia> config = MobileNetConfig(width_mult=0.25, num_classes=10);

julia> MobileNets.infer_config(MobileNets.Flux.state(MobileNets.flux_chain(build(config)))) == config
true
```
"""
function infer_config(state; source="state", fields...)
    found = flux_leaves(state)
    (; convs, norms, denses) = found
    counted = "$(length(convs)) Conv, $(length(norms)) BatchNorm, $(length(denses)) Dense"
    refuse() = throw(WeightsError(
        "$source: layers must be those of a known family at a width_mult of at most four decimals. " *
        "Received: $counted; give the config",
    ))
    (isempty(convs) || isempty(norms) || length(denses) != 1) && refuse()
    shapes, shown = [size(leaf.fields.weight) for leaf in convs], shown_fields(found)
    for family in FAMILIES
        length(layers(MobileNetConfig(; family))) == length(shapes) || continue
        for rounding in roundings(family), width_mult in likely_widths(last(shapes[1]))
            config = candidate(; shown..., family, width_mult, rounding, fields...)
            isnothing(config) || map(weight_shape, layers(config)) != shapes || return config
        end
    end
    return refuse()
end

"A config, or `nothing` for a width that leaves no channels."
function candidate(; fields...)
    try
        return MobileNetConfig(; fields...)
    catch error
        error isa ConfigError || rethrow()
        return nothing
    end
end

"The roundings of widths, a family's own first."
function roundings(family)
    own = MobileNetConfig(; family).rounding
    return [own; filter(!=(own), collect(ROUNDINGS))]
end

"""
Width multipliers in the order they are preferred: Howard et al., arXiv:1704.04861, table 6; Keras' MobileNetV2
(0.35 to 1.4); timm's mobilenetv1_125; the Flux case study (0.1). Python's `PUBLISHED` has the same.
"""
const PUBLISHED_WIDTHS = (1.0, 0.75, 0.5, 0.25, 0.35, 1.4, 1.3, 1.25, 0.1)

"Multipliers that may leave the stem `channels`, those of fewer decimals first."
function likely_widths(channels)
    most = 8 # what a rounding may add or take away
    decimal = (n / 10^decimals for decimals in 1:4 for n in 1:(2 * 10^decimals))
    widths = unique(Iterators.flatten((PUBLISHED_WIDTHS, decimal)))
    return filter(width -> abs(STEM_CHANNELS * width - channels) <= most, widths)
end

"What the first layers and the classifier show of a config."
function shown_fields(found)
    stem, norm, dense = found.convs[1].fields, found.norms[1].fields, only(found.denses).fields
    fields = Dict{Symbol,Any}(
        :in_channels => size(stem.weight, 3), :num_classes => size(dense.weight, 1)
    )
    haskey(norm, :ϵ) && (fields[:norm_eps] = shortest(norm.ϵ))
    haskey(norm, :momentum) && (fields[:norm_momentum] = shortest(norm.momentum))
    haskey(stem, :stride) && (fields[:stem_stride] = first(stem.stride))
    length(found.dropouts) == 1 && (fields[:dropout] = shortest(found.dropouts[1].fields.p))
    uneven(leaf) = haskey(leaf.fields, :pad) && !allequal(values(leaf.fields.pad))
    any(uneven, found.convs) && (fields[:padding] = "keras")
    return fields
end

"The `Float64` that a number is written as: 1e-5 for `1f-5`."
shortest(value::AbstractFloat) = parse(Float64, replace(string(value), 'f' => 'e'))
shortest(value) = value
