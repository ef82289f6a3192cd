# One training step of a model: gradients and statistics by the names of records.

"""
    train_step(model, x, labels; loss=nothing, draw=nothing)

Take one training step of a copy of a model, without dropout and without optimizer.

`labels` are integers from 0. `loss` is a function of the outputs and of one-hot columns, by default
`Flux.logitcrossentropy`. With a number as `draw`, every weight is moved by one unit in the last place, as in
`trace`. The result has the fields

- `records`: a `LayerRecord` for each layer, in training mode;
- `output`, `loss`, and `output_gradient`, that of the loss in the output;
- `gradients`: name of a record => name of a parameter => gradient, zeros where the loss does not depend on it;
- `statistics`: name of a norm => `running_mean` and `running_var` after the step.
"""
function train_step end

"The labels as one-hot columns for the outputs of a model."
function one_hot end

"The path of a record in the model: its name without the number of the call."
path_of(record) = String(first(split(record.name, '#')))

zeros_for(::Nothing, array) = zero(array)
zeros_for(gradient, array) = reshape(Array(gradient), size(array))

"The part of a gradient that belongs to the layer at a path, or nothing."
function gradient_at(gradient, path)
    for token in eachmatch(r"\.?([^.\[\]]+)|\[(\d+)\]", path)
        gradient === nothing && return nothing
        name, index = token.captures
        gradient = name === nothing ? gradient[parse(Int, index)] : getproperty(gradient, Symbol(name))
    end
    return gradient
end

function gradients_of(record, gradient)
    layer = gradient_at(gradient, path_of(record))
    hasproperty(layer, :diag) && (layer = layer.diag) # a layer norm of Flux
    return Pair{String,Any}[
        name => zeros_for(field_of(layer, name), array) for (name, array) in record.params if !startswith(name, "running")
    ]
end

field_of(::Nothing, name) = nothing
function field_of(layer, name)
    field = only(intersect(PARAM_FIELDS[name], propertynames(layer)))
    value = getproperty(layer, field)
    return value isa AbstractArray ? value : nothing
end

has_statistics(record) = any(pair -> first(pair) == "running_mean", record.params)
