# One training step of a Flux model: what its layers compute in training mode, loss, gradients, statistics.

"Layers that drop values at random; each framework draws other ones."
const Dropouts = Union{Flux.Dropout,Flux.AlphaDropout}

"""
    train_step(model, x, labels; loss=nothing, draw=nothing)

Take one training step of a copy of a Flux model, without dropout and without optimizer.

`labels` are integers from 0. `loss` is a function of the outputs and of one-hot columns, by default
`Flux.logitcrossentropy`. With a number as `draw`, every weight is moved by one unit in the last place, as in
`trace`. The result has the fields

- `records`: a `LayerRecord` for each layer, in training mode;
- `output`, `loss`, and `output_gradient`, that of the loss in the output;
- `gradients`: name of a record => name of a parameter => gradient, zeros where the loss does not depend on it;
- `statistics`: name of a norm => `running_mean` and `running_var` after the step.
"""
function train_step(model, x, labels; loss=nothing, draw=nothing)
    loss = loss === nothing ? Flux.logitcrossentropy : loss
    tape = Tape()
    Base.invokelatest(wrap(training_copy(model, eltype(x), draw), "", tape), x)
    trained = training_copy(model, eltype(x), draw)
    function objective(m)
        output = m(x)
        return loss(output, one_hot(labels, output)), output
    end
    (value, output), (gradient,) = Base.invokelatest(Flux.withgradient, objective, trained)
    only_output = Base.invokelatest(Flux.gradient, y -> loss(y, one_hot(labels, y)), output)
    records = filter(record -> !isempty(record.params), tape.records)
    return (;
        tape.records,
        output=Array(output),
        loss=Float64(value),
        output_gradient=zeros_for(only(only_output), output),
        gradients=Pair{String,Any}[record.name => gradients_of(record, gradient) for record in records],
        statistics=Pair{String,Any}[
            record.name => statistics_of(trained, record) for record in records if has_statistics(record)
        ],
    )
end

function training_copy(model, ::Type{T}, draw) where {T}
    copied_model = without_dropout(convert_weights(T, deepcopy(model)))
    draw === nothing || move_weights!(copied_model, draw)
    return Flux.trainmode!(copied_model)
end

without_dropout(model) =
    Flux.fmap(x -> x isa Dropouts ? identity : x, model; exclude=x -> x isa Dropouts || Flux.Functors.isleaf(x))

function one_hot(labels, output)
    classes = size(output, 1)
    all(<(classes), labels) || throw(ConfigError("labels must be less than the $classes classes"))
    return Flux.onehotbatch(labels, 0:(classes - 1))
end

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

function statistics_of(model, record)
    layer = layer_at(model, path_of(record))
    return arrays("running_mean" => layer.μ, "running_var" => layer.σ²)
end
