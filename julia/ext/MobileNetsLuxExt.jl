"""
Models of Lux in comparisons: `(model, ps, st)` in place of a Flux model. Lux's layers are pure, so a copy of the model
in which every leaf layer is a `LuxRecorder` runs on the same parameters and states.
"""
module MobileNetsLuxExt

using Base.CoreLogging: NullLogger, with_logger
using Flux: Flux
using Lux: Lux
using Lux.LuxCore: LuxCore, AbstractLuxContainerLayer, AbstractLuxLayer, AbstractLuxWrapperLayer
using MobileNets.Tracing:
    Tracing, Recorder, Step, Tape, arrays, copied, join_path, one_hot, padding_pairs, path_of, setting, steps,
    with_activation, with_decimal_eps, copy_with, write!, zeros_for

"A model of Lux with its parameters and states."
struct LuxModel{M,P,S}
    model::M
    ps::P
    st::S
end

(m::LuxModel)(x) = first(LuxCore.apply(m.model, x, m.ps, m.st))

const Built = Tuple{AbstractLuxLayer,Any,NamedTuple}

Tracing.model_and_loss(built::Built) = LuxModel(built...), nothing
Tracing.model_and_loss((built, loss)::Tuple{Built,Function}) = LuxModel(built...), loss

Tracing.framework(::LuxModel) = "Lux"
Tracing.framework_version(::LuxModel) = string(pkgversion(Lux))
Tracing.saved_state(m::LuxModel) = ("ps" => m.ps, "st" => m.st)

Flux.testmode!(m::LuxModel) = LuxModel(m.model, m.ps, LuxCore.testmode(m.st))
Flux.trainmode!(m::LuxModel) = LuxModel(m.model, m.ps, LuxCore.trainmode(m.st))

converted(::Type{Float64}, values) = Lux.f64(values)
converted(::Type{Float32}, values) = Lux.f32(values)

const Norm = Union{Lux.BatchNorm,Lux.GroupNorm,Lux.InstanceNorm,Lux.LayerNorm}

Tracing.convert_weights(::Type{T}, m::LuxModel) where {T} = LuxModel(
    map_layers((layer, path) -> layer isa Norm ? with_decimal_eps(T, layer) : layer, m.model),
    converted(T, m.ps), converted(T, m.st),
)

Tracing.move_weights!(m::LuxModel, draw) = Tracing.move_weights!(m.ps, draw)

const Dropouts = Union{Lux.Dropout,Lux.AlphaDropout,Lux.VariationalHiddenDropout}

Tracing.without_dropout(m::LuxModel) = LuxModel(
    map_layers((layer, path) -> layer isa Dropouts ? Lux.NoOpLayer() : layer, m.model), m.ps, m.st
)

"The parameters and the states of the layer at a path, such as `layer_3.layer_1`."
Tracing.layer_at(m::LuxModel, path) = merge(NamedTuple(value_at(m.ps, path)), value_at(m.st, path))
value_at(values, path) =
    foldl((value, name) -> getproperty(value, Symbol(name)), split(path, '.'; keepempty=false); init=values)

# Layers with their paths in the parameters

const Pool = Union{
    Lux.MaxPool,Lux.MeanPool,Lux.LPPool,Lux.GlobalMaxPool,Lux.GlobalMeanPool,Lux.GlobalLPPool,Lux.AdaptiveMaxPool,
    Lux.AdaptiveMeanPool,Lux.AdaptiveLPPool,
}

is_leaf(layer) = layer isa Pool || !(layer isa Union{AbstractLuxContainerLayer,AbstractLuxWrapperLayer})

"""
    map_layers(f, model, path="")

The model with `f(layer, path)` in the place of each leaf layer, and `f(connection, path)` of each function that joins
the outputs of layers.
"""
map_layers(f, layer::AbstractLuxLayer, path="") = is_leaf(layer) ? f(layer, path) : copy_with(
    layer,
    Dict(name => map_layers(f, getfield(layer, name), inner_path(layer, name, path)) for name in inner_fields(layer)),
)
map_layers(f, connection::Function, path="") = f(connection, path)
map_layers(f, layers::NamedTuple, path="") =
    NamedTuple{keys(layers)}(map(name -> map_layers(f, layers[name], join_path(path, name)), keys(layers)))
map_layers(f, value, path="") = value

const CONNECTIONS = (:connection, :fusion)

"The fields of a layer that hold layers, or functions that join their outputs."
inner_fields(layer::AbstractLuxContainerLayer{names}) where {names} = names
inner_fields(layer::AbstractLuxWrapperLayer{name}) where {name} =
    (name, intersect(CONNECTIONS, fieldnames(typeof(layer)))...)

"Where the parameters of a field are. A layer with one such field has them without its name."
inner_path(layer::AbstractLuxContainerLayer, name, path) = join_path(path, name)
inner_path(layer::Lux.CompactLuxLayer, name, path) = path
function inner_path(layer::AbstractLuxWrapperLayer, name, path)
    is_function = name in CONNECTIONS && !(getfield(layer, name) isa AbstractLuxLayer)
    has_connection = any(inner -> getfield(layer, inner) isa AbstractLuxLayer, intersect(CONNECTIONS, inner_fields(layer)))
    return is_function || has_connection ? join_path(path, name) : path
end

# Records

"A layer that writes a record of each call."
struct LuxRecorder{L} <: AbstractLuxWrapperLayer{:layer}
    layer::L
    path::String
    tape::Tape
end

function (recorder::LuxRecorder)(x, ps, st)
    values = x isa Tuple ? collect(Any, x) : Any[x]
    for step in lux_steps(recorder.layer, ps, st)
        copies = map(copied, values)
        output = step.run(values...)
        output isa AbstractArray || return output, st
        write!(recorder.tape, recorder.path * step.suffix, step, copies, copied(output))
        values = Any[output]
    end
    return only(values), st
end

record(layer::AbstractLuxLayer, path, tape) = LuxRecorder(layer, path, tape)
record(connection::Function, path, tape) = Recorder(path, connection, tape)

function Tracing.wrap(m::LuxModel, path, tape)
    wrapped = map_layers((layer, inner) -> record(layer, inner, tape), m.model, path)
    return x -> first(LuxCore.apply(wrapped, x, m.ps, m.st))
end

"A layer as a function of its inputs."
run_with(layer, ps, st) = (x...) -> first(LuxCore.apply(layer, length(x) == 1 ? only(x) : x, ps, st))

"The steps of a layer, in order; see `Tracing.steps`."
lux_steps(layer, ps, st) =
    [Step("other", run_with(layer, ps, st); settings=setting("function" => string(nameof(typeof(layer)))))]
lux_steps(layer::Lux.Conv, ps, st) = convolution("conv", layer, ps, st)
lux_steps(layer::Lux.ConvTranspose, ps, st) = convolution("conv_transpose", layer, ps, st)
lux_steps(layer::Lux.Dense, ps, st) =
    with_activation(Step("dense", linear(layer, ps, st); params=weight_and_bias(ps)), layer.activation, layer)
lux_steps(layer::Dropouts, ps, st) = [Step("dropout", identity; settings=setting("p" => Float64(layer.p)))]
lux_steps(layer::Lux.NoOpLayer, ps, st) = [Step("identity", identity)]
lux_steps(layer::Lux.FlattenLayer{Nothing}, ps, st) = [Step("flatten", run_with(layer, ps, st))]
lux_steps(layer::Lux.ReshapeLayer{1}, ps, st) = [Step("flatten", run_with(layer, ps, st))]
lux_steps(layer::Lux.WrappedFunction, ps, st) = steps(layer.func)
lux_steps(layer::Lux.WrappedFunction{<:Base.Fix1{typeof(broadcast),<:Function}}, ps, st) = steps(layer.func.x)
lux_steps(layer::Pool, ps, st) = [pool(layer.layer.op, layer.layer.mode, run_with(layer, ps, st))]

function lux_steps(layer::Union{Lux.BatchNorm,Lux.InstanceNorm,Lux.GroupNorm}, ps, st)
    kind = layer isa Lux.BatchNorm ? "batch_norm" : layer isa Lux.GroupNorm ? "group_norm" : "instance_norm"
    params = arrays(
        "weight" => get(ps, :scale, nothing), "bias" => get(ps, :bias, nothing),
        "running_mean" => get(st, :running_mean, nothing), "running_var" => get(st, :running_var, nothing),
    )
    settings = setting("eps" => Float64(layer.epsilon))
    layer isa Lux.GroupNorm && append!(settings, setting("groups" => Int(layer.groups)))
    if !(layer isa Lux.GroupNorm)
        uses_batch = !haskey(st, :running_mean) || st.training isa Val{true}
        append!(settings, setting("training" => uses_batch, "momentum" => Float64(layer.momentum)))
    end
    return with_activation(Step(kind, linear(layer, ps, st); params, settings), layer.activation, layer)
end

"""
With `dims=:`, which is Lux's default, `LayerNorm` takes mean and variance of the whole array, all images together. Only
along the first axes it is what other frameworks call a layer norm.
"""
function lux_steps(layer::Lux.LayerNorm, ps, st)
    axes = layer.dims isa Colon ? 0 : length(layer.dims)
    name = layer.dims isa Colon ? "LayerNorm of the whole batch" : "LayerNorm"
    is_standard = axes > 0 && Tuple(layer.dims) == Tuple(1:axes) && axes == length(layer.shape)
    settings = is_standard ? setting("eps" => Float64(layer.epsilon), "axes" => axes) : setting("function" => name)
    params = is_standard ? arrays("weight" => without_batch(ps, :scale), "bias" => without_batch(ps, :bias)) : arrays()
    step = Step(is_standard ? "layer_norm" : "other", linear(layer, ps, st); params, settings)
    return with_activation(step, layer.activation, layer)
end

"A parameter of a layer norm without its last axis, of length 1."
without_batch(ps, name) = haskey(ps, name) ? dropdims(ps[name]; dims=ndims(ps[name])) : nothing

linear(layer, ps, st) = run_with(copy_with(layer, Dict(:activation => identity)), ps, st)
weight_and_bias(ps) = arrays("weight" => ps.weight, "bias" => get(ps, :bias, nothing))

function convolution(kind, layer, ps, st)
    settings = setting(
        "stride" => reversed(layer.stride), "padding" => padding_pairs(Int.(layer.pad), length(layer.stride)),
        "dilation" => reversed(layer.dilation), "groups" => Int(layer.groups),
        "flipped" => layer.cross_correlation != true,
    )
    hasproperty(layer, :outpad) && append!(settings, setting("output_padding" => reversed(layer.outpad)))
    step = Step(kind, linear(layer, ps, st); params=weight_and_bias(ps), settings)
    return with_activation(step, layer.activation, layer)
end

"Sizes in torch's order of axes: height, then width."
reversed(sizes) = reverse(collect(Int, sizes))

pool(op, mode, run) = Step(pool_kind(op), run; settings=pool_settings(mode))
pool_kind(::Lux.MaxPoolOp) = "max_pool"
pool_kind(::Lux.MeanPoolOp) = "mean_pool"
pool_kind(op) = "other"
pool_settings(::Lux.GlobalPoolMode) = setting("output_size" => [1, 1])
pool_settings(mode::Lux.AdaptivePoolMode) = setting("output_size" => reversed(mode.out_size))
pool_settings(mode::Lux.GenericPoolMode) = setting(
    "size" => reversed(mode.kernel_size), "stride" => reversed(mode.stride),
    "padding" => padding_pairs(Int.(mode.pad), length(mode.kernel_size)), "count_padding" => true,
)

# Training

"One training step; see `Tracing.train_step`."
function Tracing.train_step(model::LuxModel, x, labels; loss=nothing, draw=nothing)
    loss = loss === nothing ? Flux.logitcrossentropy : loss
    tape = Tape()
    copied_model = Tracing.training_copy(model, eltype(x), draw)
    with_logger(NullLogger()) do # Lux warns of training mode outside of a gradient
        Base.invokelatest(Tracing.wrap(copied_model, "", tape), x)
    end
    function objective(ps)
        output, states = LuxCore.apply(copied_model.model, x, ps, copied_model.st)
        return loss(output, one_hot(labels, output)), output, states
    end
    (value, output, states), (gradient,) = Base.invokelatest(Flux.withgradient, objective, copied_model.ps)
    only_output = Base.invokelatest(Flux.gradient, y -> loss(y, one_hot(labels, y)), output)
    records = filter(record -> !isempty(record.params), tape.records)
    return (;
        tape.records,
        output=Array(output),
        loss=Float64(value),
        output_gradient=zeros_for(only(only_output), output),
        gradients=Pair{String,Any}[record.name => Tracing.gradients_of(record, gradient) for record in records],
        statistics=Pair{String,Any}[
            record.name => statistics_of(states, record) for record in records if Tracing.has_statistics(record)
        ],
    )
end

function statistics_of(states, record)
    state = value_at(states, path_of(record))
    return arrays("running_mean" => state.running_mean, "running_var" => state.running_var)
end

end
