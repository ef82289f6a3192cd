# A copy of a model of Flux in which every leaf layer is a `Recorder`.

function Tracing.trace(model, x; draw=nothing)
    tape = Tape()
    converted = Flux.testmode!(convert_weights(eltype(x), deepcopy(model)))
    draw === nothing || move_weights!(converted, draw)
    wrapped = wrap(converted, "", tape)
    output = Base.invokelatest(wrapped, x)
    output isa AbstractArray || throw(ConfigError("the model must return one array. Received: $(typeof(output))"))
    return tape.records, Array(output)
end

Tracing.framework(model) = "Flux"
Tracing.framework_version(model) = string(pkgversion(Flux))

const WithConstants = Union{Norm,Flux.LayerNorm}

function Tracing.convert_weights(::Type{T}, model) where {T}
    of_type = T === Float64 ? Flux.f64 : Flux.f32
    converted(x) = x isa WithConstants ? with_decimal_eps(T, of_type(x)) : of_type(x)
    return Flux.fmap(converted, model; exclude=x -> x isa WithConstants || Functors.isleaf(x))
end

function Tracing.move_weights!(model, draw)
    for (index, array) in enumerate(Flux.trainables(model))
        words = Philox.raw_words(draw, 5, 0, index, length(array))
        for i in eachindex(array)
            array[i] = words[i] >> 63 == 0 ? prevfloat(array[i]) : nextfloat(array[i])
        end
    end
end

"Replace every leaf layer in `x` by a `Recorder`; what holds no layers stays as it is."
Tracing.wrap(layer::Leaf, path, tape) = Recorder(path, layer, tape)
Tracing.wrap(f::Function, path, tape) = Recorder(path, f, tape)
Tracing.wrap(x::Union{AbstractArray{<:Number},Number,Nothing,Symbol,AbstractString}, path, tape) = x
Tracing.wrap(x::AbstractVector, path, tape) = map(i -> wrap(x[i], join_path(path, i), tape), eachindex(x))
Tracing.wrap(@nospecialize(x::Tuple), path, tape) = (wrap_all(x, path, tape)...,)
Tracing.wrap(@nospecialize(x::NamedTuple), path, tape) = NamedTuple{keys(x)}((wrap_all(x, path, tape)...,))

function Tracing.wrap(@nospecialize(x), path, tape)
    children, rebuild = Functors.functor(x)
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
    children = Functors.functor(x)[1]
    return holds_any(children) || (is_callable(x) && !isempty(children))
end

holds_any(@nospecialize(x)) = any(Any[holds_layers(value) for value in values(x)])
