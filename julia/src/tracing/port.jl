# Weights from outside, copied into the layers of a Flux model.

"Field of a layer that holds each parameter of a record."
const PARAM_FIELDS = Dict(
    "weight" => (:weight, :γ, :scale), "bias" => (:bias, :β), "running_mean" => (:μ, :running_mean),
    "running_var" => (:σ², :running_var),
)

"""
    layer_at(model, path)

The layer at a path of a record, such as `layers[3].norm`.
"""
function layer_at(model, path)
    layer = model
    for token in eachmatch(r"\.?([^.\[\]]+)|\[(\d+)\]", path)
        name, index = token.captures
        layer = name === nothing ? layer[parse(Int, index)] : getproperty(layer, Symbol(name))
    end
    return layer
end

"""
    load_params!(model, path, params)

Copy arrays into the layer at `path`: `params` maps the names of a record to arrays of the layer's shapes.
"""
function load_params!(model, path, params)
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

"""
    save_state(path, model)

Write the `saved_state` of a model to a JLD2 file; JLD2 has to be loaded.
"""
function save_state end

"Key => value of what a file of weights has: for Flux what `loadmodel!` takes."
saved_state(model) = ("model_state" => Flux.state(model),)
