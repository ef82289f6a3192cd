"Files of JLD2: `model_state` in them is what `Flux.state` gave for a stock model."
module MobileNetsJLD2Ext

using JLD2: JLD2
using MobileNets: MobileNets, Flux, FluxState, atomic_write, flux_chain, model_of, require

"""
Reading runs nothing that the file names and builds none of its types. What JLD2 0.6 would do, and what
keeps it from that (reading its src/data):

- it looks up a dataset's Julia type by name in all loaded modules, and `rconvert`s and `Expr(:new)`s values
  of it, past every constructor; values of type `Module` are even imported with `@eval`
  (specialcased_types.jl). With `plain` a committed datatype is read as the plain HDF5 one under it, into
  `NamedTuple`s, strings, numbers and arrays (reconstructing_datatypes.jl, `jltype`);
- it looks up the element type of arrays of references, `plain` or not (datasets.jl, `read_data`): `only_any`
  answers `Any` for whatever name the file gives;
- it follows addresses of the file without bounds in a mapped file: hence `IOStream`.

An array may still claim more than the file holds, which JLD2 allocates before it reads; memory that cannot
be had is an error here as any other.
"""
only_any(file, name, parameters) = Any

function MobileNets.read_container(::Val{:jld2}, path)
    try
        return JLD2.jldopen(read_model, path, "r"; plain=true, typemap=only_any, iotype=IOStream)
    catch error
        error isa Union{InterruptException,ArgumentError} && rethrow()
        throw(ArgumentError(first(split(sprint(showerror, error), '\n'))))
    end
end

"""
The state and, in a file that MobileNets wrote, the texts beside it; what else a user's own file holds is
not read.
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

function MobileNets.write_container(::Val{:jld2}, path, config, tensors, metadata)
    state = Flux.state(flux_chain(model_of(config, tensors)))
    buffer = IOBuffer()
    JLD2.jldopen(buffer, "w") do file
        for (name, text) in metadata
            file[name] = text
        end
        file["model_state"] = state
    end
    return atomic_write(file -> write(file, take!(buffer)), path)
end

end
