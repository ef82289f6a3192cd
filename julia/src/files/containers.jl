# Containers: the file formats of a model. The format of a file is detected from its content; that of a file to be
# written is given by its suffix. Formats that require another package are extensions in ext/.

"Suffix => format of the files that can be written."
const CONTAINERS = (".safetensors" => :safetensors, ".npz" => :npz, ".jld2" => :jld2)

"Format => the package that must be loaded for its extension."
const CONTAINER_PACKAGES = Dict(:jld2 => "JLD2")

const JLD2_START, HDF5_START = b"HDF5-based Julia Data Format", b"\x89HDF\r\n\x1a\n"

"""
    MobileNets.container(path)

The format of a file, `:safetensors`, `:npz`, `:jld2` or `:bson`, detected from its first bytes; `:safetensors` if they
are of none. Throws a `WeightsError` for a file that is missing, and for an HDF5 file that is not JLD2's.
"""
function container(path)
    isfile(path) || throw(WeightsError("$path: no such file"))
    start = open(file -> read(file, 32), path)
    starts_with(bytes) = first(start, length(bytes)) == bytes
    starts_with(JLD2_START) && return :jld2
    starts_with(b"PK\x03\x04") && return :npz
    starts_with(HDF5_START) && throw(WeightsError(
        "$path is an HDF5 file, and not one of JLD2's; Keras' .h5 files are read in Python: " *
        "pymobilenet convert",
    ))
    length(start) >= 5 || return :safetensors # its reader states what is missing
    size = ltoh(reinterpret(Int32, start[1:4])[1])
    is_bson = size == filesize(path) && start[5] in BSON_KINDS
    return is_bson ? :bson : :safetensors
end

"The format that the suffix of a path to be written stands for, in upper or lower case."
function container_for(path)
    for (suffix, kind) in CONTAINERS
        endswith(lowercase(String(path)), suffix) && return kind
    end
    return throw(WeightsError(
        "$path: the name must end in $(join(first.(CONTAINERS), ", ", " or ")), which says the format"
    ))
end

"""
    read_container(Val(kind), path) -> contents, metadata

The contents of a file, a `Dict` of name => array or a [`FluxState`](@ref), and its metadata. Throws an `ArgumentError`
that states the rule if the file breaks one.
"""
read_container(::Val{:safetensors}, path) = open(file -> read_safetensors(file, false), path)
read_container(::Val{:npz}, path) = open(read_npz, path)
read_container(kind::Val, path) = throw_package_missing(kind, path)

"""
    write_container(Val(kind), path, config, tensors, metadata)

Write named arrays, of a model with this config, and metadata to a file.
"""
write_container(::Val{:safetensors}, path, config, tensors, metadata) =
    write_tensors(path, tensors, metadata)
write_container(::Val{:npz}, path, config, tensors, metadata) = write_npz(path, tensors, metadata)
write_container(kind::Val, path, config, tensors, metadata) = throw_package_missing(kind, path)

function throw_package_missing(::Val{kind}, path) where {kind}
    package = CONTAINER_PACKAGES[kind]
    throw(WeightsError(
        "$path: .$kind files need $package.jl: `import $package` first " *
        "(`using Pkg; Pkg.add(\"$package\")` where it is not installed)",
    ))
end

"The `Flux.state` of a stock model, as the contents of a file."
struct FluxState
    value::Any
end

"The contents of a file of any format; errors have the same form for all formats."
function read_file(path)
    kind = container(path)
    try
        return read_container(Val(kind), path)
    catch error
        rule = broken_rule(error)
        throw(WeightsError("$path ($(filesize(path)) bytes) is not a valid $kind file: $rule"))
    end
end
