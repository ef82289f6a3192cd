"Files of JLD2: their `model_state` is the `Flux.state` of a stock model."
module MobileNetsJLD2Ext

using JLD2: JLD2
using Flux: Flux
using MobileNets: flux_chain
using MobileNets.Files: Files, FluxState, atomic_write, require
using MobileNets.Models: model_from_state
using MobileNets.Tracing: Tracing

"""
Reading evaluates nothing that the file names, and builds none of its types. By default JLD2 0.6 (src/data):

- looks up the Julia type of a dataset by name in all loaded modules, and creates values of it with `rconvert` and
  `Expr(:new)`, without constructors; values of type `Module` are imported with `@eval` (specialcased_types.jl). With
  `plain`, a committed datatype is read as its HDF5 datatype, into `NamedTuple`s, strings, numbers and arrays
  (reconstructing_datatypes.jl, `jltype`);
- looks up the element type of arrays of references, also with `plain` (datasets.jl, `read_data`): `only_any` returns
  `Any` for every name;
- follows addresses in a memory-mapped file without bounds checks: therefore `IOStream`.

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
The state and, in a file written by MobileNets, the metadata. Other contents of a file are not read.
"""
function read_model(file)
    require(haskey(file, "model_state"), "it has no model_state, but $(join(keys(file), ", "))")
    metadata = Dict{String,String}()
    if haskey(file, "format_version")
        for name in filter(!=("model_state"), collect(keys(file)))
            text = file[name]
            require(text isa AbstractString, "$name must be text. Received: $(typeof(text))")
            metadata[name] = text
        end
    end
    return FluxState(file["model_state"]), metadata
end

function Files.write_container(::Val{:jld2}, path, config, tensors, metadata)
    state = Flux.state(flux_chain(model_from_state(config, tensors)))
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
    JLD2.jldopen(file -> file["model_state"] = Flux.state(model), buffer, "w")
    return atomic_write(file -> write(file, take!(buffer)), path)
end

end
