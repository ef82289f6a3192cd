"""
    LayerRecord

One layer in one run of a model.

- `name`: its path in the model, such as `layers[3].layers[1]`.
- `kind`: such as `"conv"`; the names are those of `pymobilenet.backends.trace`.
- `inputs`, `output`: arrays with the batch as last axis.
- `params`: name => array, as the layer stores them.
- `settings`: name => value.
- `run`: a function that computes the layer from other inputs.
"""
struct LayerRecord
    name::String
    kind::String
    inputs::Vector{Any}
    output::Any
    params::Vector{Pair{String,Any}}
    settings::Vector{Pair{String,Any}}
    run::Any
end

"The records of one run, and how often each layer was called."
struct Tape
    records::Vector{LayerRecord}
    calls::Dict{String,Int}
end

Tape() = Tape(LayerRecord[], Dict{String,Int}())

"""
A layer that writes a record of each call. Its type does not depend on the layer, so that what holds layers is compiled
once for many of them.
"""
struct Recorder
    name::String
    layer::Any
    tape::Tape
end

function (recorder::Recorder)(inputs...)
    values = collect(Any, inputs)
    for step in steps(recorder.layer)
        copies = map(copied, values)
        output = step.run(values...)
        output isa AbstractArray || return output
        write!(recorder.tape, recorder.name * step.suffix, step, copies, copied(output))
        values = Any[output]
    end
    return only(values)
end

copied(value) = value isa AbstractArray ? Array(value) : value

function write!(tape, path, step, inputs, output)
    calls = tape.calls[path] = get(tape.calls, path, 0) + 1
    name = calls == 1 ? path : "$path#$calls"
    push!(tape.records, LayerRecord(name, step.kind, inputs, output, step.params, step.settings, step.run))
end
