# Weights from outside, copied into the layers of a Flux model.

function Tracing.layer_at(model, path)
    layer = model
    for token in eachmatch(r"\.?([^.\[\]]+)|\[(\d+)\]", path)
        name, index = token.captures
        layer = name === nothing ? layer[parse(Int, index)] : getproperty(layer, Symbol(name))
    end
    return layer
end

function Tracing.load_params!(model, path, params)
    layer = layer_at(model, path)
    holder = layer isa Flux.LayerNorm ? layer.diag : layer
    for (name, array) in params
        target = getfield(holder, only(intersect(PARAM_FIELDS[string(name)], fieldnames(typeof(holder)))))
        size(target) in (size(array), (size(array)..., 1)) ||
            throw(DimensionMismatch("$path: $name must have size $(size(target)). Received: $(size(array))"))
        copyto!(target, array)
    end
    return model
end

Tracing.saved_state(model) = ("model_state" => Flux.state(model),)
