# Weights from outside, copied into the layers of a model, and files of weights.

"Field of a layer that holds each parameter of a record."
const PARAM_FIELDS = Dict(
    "weight" => (:weight, :γ, :scale), "bias" => (:bias, :β), "running_mean" => (:μ, :running_mean),
    "running_var" => (:σ², :running_var),
)

"""
    layer_at(model, path)

The layer at a path of a record, such as `layers[3].norm`.
"""
function layer_at end

"""
    load_params!(model, path, params)

Copy arrays into the layer at `path`: `params` maps the names of a record to arrays of the layer's shapes.
"""
function load_params! end

"""
    save_state(path, model)

Write the `saved_state` of a model to a JLD2 file; JLD2 has to be loaded.
"""
function save_state end

"Key => value of what a file of weights has: for Flux what `loadmodel!` takes."
function saved_state end
