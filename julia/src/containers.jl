# The file formats that hold a model, told apart by what is in the file, and chosen by its suffix when
# one is written. What needs a package of its own is an extension in ext/.

"A file format, as a type: `Val(:npz)`."
const CONTAINERS = (".safetensors" => :safetensors, ".npz" => :npz, ".jld2" => :jld2)

"Formats that extensions read and write => the package that is to be imported."
const CONTAINER_PACKAGES = Dict(:jld2 => "JLD2")

const JLD2_START, HDF5_START = b"HDF5-based Julia Data Format", b"\x89HDF\r\n\x1a\n"

"""
    MobileNets.container(path)

`:safetensors`, `:npz`, `:jld2` or `:bson`, by the file's first bytes. Throws a `WeightsError` for a file that
is missing, or begins as none of them does.
"""
function container(path)
    isfile(path) || throw(WeightsError("$path: no such file"))
    start = open(file -> read(file, 32), path)
    startswith_bytes(wanted) = first(start, length(wanted)) == wanted
    startswith_bytes(JLD2_START) && return :jld2
    startswith_bytes(b"PK\x03\x04") && return :npz
    startswith_bytes(HDF5_START) && throw(WeightsError(
        "$path is an HDF5 file, and not one of JLD2's; Keras' .h5 files are read in Python: " *
        "pymobilenet convert",
    ))
    length(start) >= 5 || return :safetensors # which says what is missing
    size = ltoh(reinterpret(Int32, start[1:4])[1])
    isbson = size == filesize(path) && start[5] in (0x01, 0x02, 0x03, 0x04, 0x05, 0x08, 0x0a, 0x10, 0x12)
    return isbson ? :bson : :safetensors
end

"The format that a path to be written asks for."
function container_for(path)
    for (suffix, kind) in CONTAINERS
        endswith(lowercase(String(path)), suffix) && return kind
    end
    return throw(WeightsError(
        "$path: the name must end in $(join(first.(CONTAINERS), ", ", " or ")), which says the format"
    ))
end

"""
What a file holds, and its metadata: `Dict` of name => array, or a [`FluxState`](@ref). Throws an
`ArgumentError` with the rule that a file breaks.
"""
read_container(::Val{:safetensors}, path) = open(file -> read_safetensors(file, false), path)
read_container(::Val{:npz}, path) = open(read_npz, path)
read_container(kind::Val, path) = package_missing(kind, path)

"Write named arrays (of a model with this `config`) and metadata."
write_container(::Val{:safetensors}, path, config, tensors, metadata) =
    write_tensors(path, tensors, metadata)
write_container(::Val{:npz}, path, config, tensors, metadata) = write_npz(path, tensors, metadata)
write_container(kind::Val, path, config, tensors, metadata) = package_missing(kind, path)

function package_missing(::Val{kind}, path) where {kind}
    package = CONTAINER_PACKAGES[kind]
    throw(WeightsError(
        "$path: .$kind files need $package.jl: `import $package` first " *
        "(`using Pkg; Pkg.add(\"$package\")` where it is not installed)",
    ))
end

"What `Flux.state` gave for a stock model, in a file that holds one."
struct FluxState
    value::Any
end

"What is read from `path`, with the errors of every format in the same words."
function read_file(path)
    kind = container(path)
    try
        return read_container(Val(kind), path)
    catch error
        refusal = rule_broken(error)
        throw(WeightsError("$path ($(filesize(path)) bytes) is no whole $kind file: $refusal"))
    end
end
