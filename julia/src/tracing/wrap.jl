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

"The same model with weights of another type. Constants of norms get the value that their decimal digits say."
function convert_weights(::Type{T}, model) where {T}
    converted = T === Float64 ? Flux.f64(model) : Flux.f32(model)
    return Flux.fmap(x -> with_decimal_eps(T, x), converted; exclude=x -> x isa Union{Norm,Flux.LayerNorm})
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
wrap(x::Union{Tuple,AbstractVector}, path, tape) = map(i -> wrap(x[i], join_path(path, i), tape), _indices(x))
wrap(x::NamedTuple, path, tape) = NamedTuple{keys(x)}(map(k -> wrap(x[k], join_path(path, k), tape), keys(x)))

function wrap(x, path, tape)
    children, rebuild = Flux.Functors.functor(x)
    any(holds_layers, children) || return isempty(children) && !is_callable(x) ? x : Recorder(path, x, tape)
    wrapped = map(k -> wrap(children[k], join_path(path, k), tape), NamedTuple{keys(children)}(keys(children)))
    return rebuild(wrapped)
end

_indices(x::Tuple) = ntuple(identity, length(x))
_indices(x) = eachindex(x)

is_callable(x) = !isempty(methods(x))

"Whether a value is a layer or has one inside."
holds_layers(::Union{Leaf,Function}) = true
holds_layers(::Union{AbstractArray{<:Number},Number,Nothing,Symbol,AbstractString}) = false
holds_layers(x::Union{Tuple,NamedTuple,AbstractVector}) = any(holds_layers, x)
function holds_layers(x)
    children = Flux.Functors.functor(x)[1]
    return any(holds_layers, children) || (is_callable(x) && !isempty(children))
end
