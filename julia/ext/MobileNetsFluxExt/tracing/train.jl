# One training step of a Flux model: what its layers compute in training mode, loss, gradients, statistics.

"Layers that drop values at random; each framework draws other ones."
const Dropouts = Union{Flux.Dropout,Flux.AlphaDropout}

function Tracing.train_step(model, x, labels; loss=nothing, draw=nothing)
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

function Tracing.training_copy(model, ::Type{T}, draw) where {T}
    copied_model = without_dropout(convert_weights(T, deepcopy(model)))
    draw === nothing || move_weights!(copied_model, draw)
    return Flux.trainmode!(copied_model)
end

Tracing.without_dropout(model) =
    Flux.fmap(x -> x isa Dropouts ? identity : x, model; exclude=x -> x isa Dropouts || Functors.isleaf(x))

function Tracing.one_hot(labels, output)
    classes = size(output, 1)
    all(<(classes), labels) || throw(ConfigError("labels must be less than the $classes classes"))
    return Flux.onehotbatch(labels, 0:(classes - 1))
end

function statistics_of(model, record)
    layer = layer_at(model, path_of(record))
    return arrays("running_mean" => layer.μ, "running_var" => layer.σ²)
end
