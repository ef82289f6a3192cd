"Files of JLD2: their `model_state` is the `Flux.state` of a stock model."
module MobileNetsJLD2Ext

using JLD2: JLD2
using MobileNets: WeightsError
using MobileNets.Files: Files, FluxState, atomic_write, require
using MobileNets.Models: flux_leaves, flux_state_of, model_from_state
using MobileNets.Tracing: Tracing

"""
Reading evaluates nothing that the file names, and builds none of its types. By default JLD2 0.6 (src/data):

- looks up the Julia type of a dataset by name in all loaded modules, and creates values of it with `rconvert` and
  `Expr(:new)`, without constructors; values of type `Module` are imported with `@eval` (specialcased_types.jl). With
  `plain`, a committed datatype is read as its HDF5 datatype, into `NamedTuple`s, strings, numbers and arrays
  (reconstructing_datatypes.jl, `jltype`);
- looks up the element type of arrays of references, also with `plain` (datasets.jl, `read_data`): `only_any` returns
  `Any` for every name;
- follows addresses in a memory-mapped file without bounds checks, and fills an `IOBuffer` with zeros up to any address:
  therefore `IOStream`. Its lock is not used: a stack overflow within a read would leave it locked by a task that has
  ended, and the finalizer of the stream would wait for that task.

JLD2 allocates the claimed size of an array before it reads it; if that fails, the error is reported as any other.
"""
only_any(file, name, parameters) = Any

function Files.read_container(::Val{:jld2}, path)
    try
        return JLD2.jldopen(read_model, path, "r"; plain=true, typemap=only_any, iotype=IOStream)
    catch error
        error isa Union{InterruptException,ArgumentError} && rethrow()
        throw(ArgumentError(first(split(sprint(showerror, error), '\n'))))
    end
end

"""
The state and, in a file written by MobileNets, the metadata. Other files may have a state under any key, in a `Dict`, or
as Lux's `ps` and `st`.
"""
function read_model(file)
    file.io._dolock = false
    check_types(file)
    metadata = Dict{String,String}()
    haskey(file, "format_version") || return FluxState(only_state(file)), metadata
    require(haskey(file, "model_state"), "it has no model_state, but $(join(keys(file), ", "))")
    for name in filter(!=("model_state"), collect(keys(file)))
        text = file[name]
        require(text isa AbstractString, "$name must be text. Received: $(typeof(text))")
        metadata[name] = text
    end
    return FluxState(file["model_state"]), metadata
end

"Modules whose types are read as tuples, arrays and numbers."
const DATA_MODULES = ("Core", "Base", "JLD2", "Optimisers", "Dates", "OrderedCollections")

"Types whose names have no module in a file."
const TUPLES = ("Tuple", "NTuple", "NamedTuple")

"""
Refuse a file with values of types of any other module, and with functions: a whole model is code as much as it is data,
and JLD2 0.6 can end the process with a segmentation fault where it reads one as plain data.
"""
function check_types(file)
    others = filter(type_names(file)) do name
        is_data = name in TUPLES || first(split(name, '.')) in DATA_MODULES
        !is_data || occursin('#', name)
    end
    require(isempty(others), "it holds values of $(join(first(others, 3), ", ")): a whole model, or other code. " *
        "Save the state alone: jldsave(path; model_state=Flux.state(model))")
end

"""
The names of the types in the file. They are read as text: the first field of a datatype's attribute `julia_type` is a
string of variable length (JLD2, src/data/writing_datatypes.jl, `H5TYPE_DATATYPE`).
"""
function type_names(file)
    names = String[]
    for datatype in collect(values(file.datatype_locations))
        _, attributes = JLD2.read_shared_datatype(file, datatype)
        for attribute in filter(a -> a.name === :julia_type, attributes)
            seek(file.io, attribute.data_offset)
            place = read(file.io, 16)
            text = JLD2.MappedRepr{String,JLD2.Vlen{String}}()
            push!(names, GC.@preserve place JLD2.jlconvert(text, file, pointer(place), JLD2.NULL_REFERENCE))
        end
    end
    return names
end

const OPTIMIZER_KEYS = ("opt_state", "optimizer", "optimiser", "opt", "optim", "_types")

"The one state in a file; an `ArgumentError` lists the keys if there is none, or more than one."
function only_state(file)
    if haskey(file, "model_state")
        state = file["model_state"]
        is_dict(state) || return state
    end
    names = filter(!in(OPTIMIZER_KEYS), collect(keys(file)))
    found = Pair{String,Any}[]
    find_states!(found, "", Pair{String,Any}[name => file[name] for name in names])
    named = filter(pair -> endswith(first(pair), "model_state"), found)
    length(named) == 1 && return last(only(named))
    require(!isempty(found), "no state of a model is under its keys $(join(names, ", "))")
    require(length(found) == 1, "it has several states, $(join(first.(found), ", ")): save one alone, as model_state")
    return last(only(found))
end

function find_states!(found, path, members::Vector{Pair{String,Any}})
    place(name) = isempty(path) ? name : "$path.$name"
    parameters, statistics = (findfirst(startswith(start) ∘ first, members) for start in ("ps", "st"))
    if !isnothing(parameters) && !isnothing(statistics)
        merged = merge_lux(last(members[parameters]), last(members[statistics]))
        is_state(merged) && return push!(found, place("ps") => merged)
    end
    for (name, value) in members
        if is_dict(value)
            inner = Pair{String,Any}[string(pair.first) => pair.second for pair in value.kvvec]
            find_states!(found, place(name), filter(pair -> !(first(pair) in OPTIMIZER_KEYS), inner))
        elseif is_state(value)
            push!(found, place(name) => value)
        end
    end
end

"Whether this is a `Dict`, which JLD2 stores as a vector of pairs."
is_dict(@nospecialize(value)) = value isa NamedTuple && keys(value) == (:kvvec,)

function is_state(@nospecialize(value))
    value isa Union{NamedTuple,Tuple} || return false
    try
        leaves = flux_leaves(value)
        return !isempty(leaves.convs) && !isempty(leaves.norms)
    catch error
        error isa WeightsError || rethrow()
        return false
    end
end

"Lux's parameters and states as one state with Flux's names of a norm's arrays."
function merge_lux(@nospecialize(parameters), @nospecialize(statistics))
    parameters isa NamedTuple || return parameters
    inner = statistics isa NamedTuple ? statistics : (;)
    if haskey(inner, :running_mean)
        scale, shift = get(parameters, :scale, nothing), get(parameters, :bias, nothing)
        return (γ=scale, β=shift, μ=inner.running_mean, σ²=inner.running_var)
    end
    names = keys(parameters)
    return NamedTuple{names}(map(name -> merge_lux(parameters[name], get(inner, name, (;))), names))
end

function Files.write_container(::Val{:jld2}, path, config, tensors, metadata)
    state = flux_state_of(model_from_state(config, tensors))
    buffer = IOBuffer()
    JLD2.jldopen(buffer, "w") do file
        for (name, text) in metadata
            file[name] = text
        end
        file["model_state"] = state
    end
    return atomic_write(file -> write(file, take!(buffer)), path)
end

function Tracing.save_state(path, model)
    buffer = IOBuffer()
    JLD2.jldopen(buffer, "w") do file
        for (name, value) in Tracing.saved_state(model)
            file[name] = value
        end
    end
    return atomic_write(file -> write(file, take!(buffer)), path)
end

end
