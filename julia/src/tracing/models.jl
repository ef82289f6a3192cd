# Models in comparisons: where they come from, and what extensions do for the models of their packages.

"""
    from_file(path, name)

The model that the function `name` of the Julia file `path` returns, without arguments.
"""
function from_file(path, name)
    space = Module(:UserModel)
    Core.eval(space, :(include(path) = Base.include($space, path)))
    Base.include(space, abspath(path))
    isdefined(space, Symbol(name)) || throw(ConfigError("$path: defines no function `$name`"))
    return Base.invokelatest(getfield(space, Symbol(name)))
end

"""
The model that a function of a Julia file returns, and its loss, or `nothing` for the usual one. The file may be what
loads Lux, and with it further methods.
"""
built_by(path, name) = Base.invokelatest(model_and_loss, from_file(path, name))

"What a function of a Julia file built: a model, or a model and its loss."
model_and_loss(built) = (built, nothing)
model_and_loss(built::Tuple{Any,Function}) = built
model_and_loss(built::Tuple{Any,Any,Any}) =
    throw(ConfigError("the first of three values must be a layer of Lux. Received: $(typeof(first(built)))"))

"""
    trace(model, x; draw=nothing) -> (records, output)

Run a copy of a Flux model in test mode on `x`, converted to the element type of `x`, and return a
`LayerRecord` for each layer, in order of execution, and what the model returns. With a number as `draw`, every
weight is moved up or down by one unit in the last place, at random.
"""
function trace end

"The name and the version of the framework of a model."
function framework end
function framework_version end

"A copy of a model in which every leaf layer writes records."
function wrap end

"The same model with weights of another type. Constants of norms get the value that their decimal digits say."
function convert_weights end

function with_decimal_eps(::Type{T}, norm) where {T}
    constants = intersect(fieldnames(typeof(norm)), (:ϵ, :epsilon, :momentum))
    return copy_with(norm, Dict(name => T(parse(BigFloat, string(getfield(norm, name)))) for name in constants))
end

"Move every weight of a model up or down by one unit in the last place, at random."
function move_weights! end

"A copy of a model in training mode, without dropout."
function training_copy end
function without_dropout end

"The record's layer, computed from other inputs."
run_layer(record, inputs) = Array(Base.invokelatest(record.run, inputs...))

join_path(path, name::Symbol) = isempty(path) ? string(name) : "$path.$name"
join_path(path, name::Integer) = "$path[$name]"
