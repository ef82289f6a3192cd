# A copy of a model in which every leaf layer is a `Recorder`.

"""
    trace(model, x; draw=nothing) -> (records, output)

Run a copy of a Flux model in test mode on `x`, converted to the element type of `x`, and return a
`LayerRecord` for each layer, in order of execution, and what the model returns. With a number as `draw`, every
weight is moved up or down by one unit in the last place, at random.
"""
function trace(model, x; draw=nothing)
    tape = Tape()
    converted = Flux.testmode!(convert_weights(eltype(x), deepcopy(model)))
    draw === nothing || move_weights!(converted, draw)
    wrapped = wrap(converted, "", tape)
    output = Base.invokelatest(wrapped, x)
    output isa AbstractArray || throw(ConfigError("the model must return one array. Received: $(typeof(output))"))
    return tape.records, Array(output)
end

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

"The name and the version of the framework of a model."
framework(model) = "Flux"
framework_version(model) = string(pkgversion(Flux))

"The record's layer, computed from other inputs."
run_layer(record, inputs) = Array(Base.invokelatest(record.run, inputs...))

const WithConstants = Union{Norm,Flux.LayerNorm}

"The same model with weights of another type. Constants of norms get the value that their decimal digits say."
function convert_weights(::Type{T}, model) where {T}
    of_type = T === Float64 ? Flux.f64 : Flux.f32
    converted(x) = x isa WithConstants ? with_decimal_eps(T, of_type(x)) : of_type(x)
    return Flux.fmap(converted, model; exclude=x -> x isa WithConstants || Flux.Functors.isleaf(x))
end

function with_decimal_eps(::Type{T}, norm) where {T}
    constants = intersect(fieldnames(typeof(norm)), (:ϵ, :epsilon, :momentum))
    return with_fields(norm, Dict(name => T(parse(BigFloat, string(getfield(norm, name)))) for name in constants))
end

function move_weights!(model, draw)
    for (index, array) in enumerate(Flux.trainables(model))
        words = Philox.raw_words(draw, 5, 0, index, length(array))
        for i in eachindex(array)
            array[i] = words[i] >> 63 == 0 ? prevfloat(array[i]) : nextfloat(array[i])
        end
    end
end

join_path(path, name::Symbol) = isempty(path) ? string(name) : "$path.$name"
join_path(path, name::Integer) = "$path[$name]"

"Replace every leaf layer in `x` by a `Recorder`; what holds no layers stays as it is."
wrap(layer::Leaf, path, tape) = Recorder(path, layer, tape)
wrap(f::Function, path, tape) = Recorder(path, f, tape)
wrap(x::Union{AbstractArray{<:Number},Number,Nothing,Symbol,AbstractString}, path, tape) = x
wrap(x::AbstractVector, path, tape) = map(i -> wrap(x[i], join_path(path, i), tape), eachindex(x))
wrap(@nospecialize(x::Tuple), path, tape) = (wrap_all(x, path, tape)...,)
wrap(@nospecialize(x::NamedTuple), path, tape) = NamedTuple{keys(x)}((wrap_all(x, path, tape)...,))

function wrap(@nospecialize(x), path, tape)
    children, rebuild = Flux.Functors.functor(x)
    holds_any(children) || return isempty(children) && !is_callable(x) ? x : Recorder(path, x, tape)
    return rebuild(NamedTuple{keys(children)}((wrap_all(children, path, tape)...,)))
end

wrap_all(@nospecialize(x), path, tape) = Any[wrap(x[k], join_path(path, k), tape) for k in keys(x)]

is_callable(x) = !isempty(methods(x))

"Whether a value is a layer or has one inside."
holds_layers(::Union{Leaf,Function}) = true
holds_layers(::Union{AbstractArray{<:Number},Number,Nothing,Symbol,AbstractString}) = false
holds_layers(x::AbstractVector) = any(holds_layers, x)
holds_layers(@nospecialize(x::Union{Tuple,NamedTuple})) = holds_any(x)
function holds_layers(@nospecialize(x))
    children = Flux.Functors.functor(x)[1]
    return holds_any(children) || (is_callable(x) && !isempty(children))
end

holds_any(@nospecialize(x)) = any(Any[holds_layers(value) for value in values(x)])
