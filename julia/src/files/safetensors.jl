# The exchange file: safetensors, written canonically. SafeTensors.jl is not used, because it writes the header in the
# order of a Dict, accepts duplicate names, and returns lazy permuted arrays instead of arrays or mapped pages.
#
# Format: https://github.com/huggingface/safetensors (README, "Format"): eight bytes of header length, a JSON header,
# the bytes of the tensors. Equal content means equal bytes, in Python and in Julia:
#
# - tensors are ordered by decreasing item size, then by name (in bytes), without gaps;
# - the header has `__metadata__` first, with its keys sorted, then the tensors in that order, each with the keys dtype,
#   shape, data_offsets; no spaces; ASCII with \u escapes;
# - the header is padded with spaces to a multiple of eight bytes.
#
# Files whose metadata have both `format_version` and `config` have `tensors_sha256` too: the SHA-256, in hex, of all
# bytes after the header. Readers compare it where it is present.

const WRITTEN_TYPES =
    Dict{Type,String}(Float64 => "F64", Float32 => "F32", Int64 => "I64", UInt8 => "U8")

"The metadata key of the SHA-256, in hex, of the bytes of the tensors in the order of the file."
const DIGEST = "tensors_sha256"

"Whether a file with these metadata has a digest."
describes_model(metadata) = haskey(metadata, "format_version") && haskey(metadata, "config")

"The upper half of a `Float32`; read as a `Float32`."
primitive type BFloat16 16 end

const READ_TYPES = (
    "BOOL" => Bool, "U8" => UInt8, "I8" => Int8, "U16" => UInt16, "I16" => Int16, "F16" => Float16,
    "BF16" => BFloat16, "U32" => UInt32, "I32" => Int32, "F32" => Float32, "U64" => UInt64,
    "I64" => Int64, "F64" => Float64,
)
const READ_NAMES, READ_BY_NAME = join(first.(READ_TYPES), ", "), Dict(READ_TYPES)

"The limit of the format on the header, in bytes."
const MAX_HEADER = 100_000_000

"Tensor names in the order of the file."
function file_order(tensors)
    return sort!(collect(keys(tensors)); by=name -> (-sizeof(eltype(tensors[name])), codeunits(name)))
end

"The bytes of the canonical file before those of the tensors: the length of the header and the header."
function encode_header(tensors, metadata)
    entries = Pair{String,Any}[]
    isempty(metadata) || push!(entries, "__metadata__" => sort!(collect(metadata); by=first))
    offset = 0
    for name in file_order(tensors)
        tensor = tensors[name]
        haskey(WRITTEN_TYPES, eltype(tensor)) || throw(WeightsError(
            "$name: only Float64, Float32, Int64, UInt8 can be written. Received: $(eltype(tensor))"
        ))
        bytes = sizeof(eltype(tensor)) * length(tensor)
        push!(entries, name => [
            "dtype" => WRITTEN_TYPES[eltype(tensor)],
            "shape" => collect(Int, reverse(size(tensor))),
            "data_offsets" => [offset, offset + bytes],
        ])
        offset += bytes
    end
    text = json_text(entries)
    text *= " "^mod(-ncodeunits(text), 8)
    return [reinterpret(UInt8, [htol(UInt64(ncodeunits(text)))]); codeunits(text)]
end

"""
    MobileNets.write_tensors(path, tensors, metadata=Dict{String,String}())

Write named arrays and text metadata as a canonical safetensors file, atomically, and return `path`. Axes are reversed
in the header, so that the file has torch's shapes and bytes. Throws a `WeightsError` for an element type other than
`Float64`, `Float32`, `Int64` and `UInt8`.
"""
function write_tensors(path, tensors, metadata=Dict{String,String}())
    tensors = Dict{String,AbstractArray}(tensors)
    metadata = Dict{String,String}(metadata)
    describes_model(metadata) && (metadata[DIGEST] = tensors_digest(tensors))
    header = encode_header(tensors, metadata)
    atomic_write(path) do file
        write(file, header)
        for name in file_order(tensors)
            write(file, collect(tensors[name]))
        end
    end
end

"The SHA-256, in hex, of the bytes of the tensors in the order of the file."
function tensors_digest(tensors)
    context = SHA.SHA256_CTX()
    for name in file_order(tensors)
        SHA.update!(context, collect(reinterpret(UInt8, vec(collect(tensors[name])))))
    end
    return bytes2hex(SHA.digest!(context))
end

"""
    MobileNets.read_tensors(path; mmap=false) -> tensors, metadata

Read a safetensors file: a `Dict` of name => array, with the axes of the shapes in the file reversed, and the metadata,
a `Dict` of strings. Throws a `WeightsError` that names file and rule for a file that is missing or breaks the format;
before the file has been checked, nothing larger than the file is allocated.

With `mmap`, the arrays are read-only pages of the file where its alignment allows, and are read when they are used.
The file must then not change as long as the arrays are in use: a file that is replaced, as `write_tensors` does, stays
available, but bytes changed in place appear in the arrays unchecked, and a file truncated in place ends the process
with a bus error.

```jldoctest
julia> path = joinpath(mktempdir(), "a.safetensors");

julia> MobileNets.write_tensors(path, Dict("x" => Float32[1 2 3; 4 5 6]));

julia> tensors, metadata = MobileNets.read_tensors(path);

julia> tensors["x"]
2×3 Matrix{Float32}:
 1.0  2.0  3.0
 4.0  5.0  6.0
```
"""
function read_tensors(path; mmap=false)
    isfile(path) || throw(WeightsError("$path: no such file"))
    try
        return open(file -> read_safetensors(file, mmap), path)
    catch error
        rule = broken_rule(error)
        throw(WeightsError("$path ($(filesize(path)) bytes) is not a valid safetensors file: $rule"))
    end
end

"Compare the digest of a file that has one with the bytes after its header, and remove it from `metadata`."
function check_digest(file, metadata)
    describes_model(metadata) && haskey(metadata, DIGEST) || return
    expected, start = pop!(metadata, DIGEST), position(file)
    received = bytes2hex(sha256(file))
    seek(file, start)
    require(
        received == expected,
        "the SHA-256 of its tensors must be that of the metadata, $(json_excerpt(expected)). Received: $received. " *
        "The file was damaged after it was written: copy it from its source again",
    )
end

function read_safetensors(file, mmap)
    total = filesize(file)
    require(total >= 8, "the eight bytes of the header's length are missing")
    length = ltoh(read(file, UInt64))
    require(length <= MAX_HEADER, "a header of $length bytes; at most $MAX_HEADER are allowed")
    require(length <= total - 8, "a header of $length bytes does not fit in the file")
    text = String(read(file, Int(length)))
    first_byte = isempty(text) ? "no byte" : "byte $(codeunit(text, 1))"
    require(startswith(text, '{'), "the header must begin with '{'. Received: $first_byte")
    header = parse_object(text)
    metadata = checked_string_dict(pop!(header, "__metadata__", Dict{String,Any}()), "__metadata__")
    entries = [checked_entry(name, entry) for (name, entry) in header]
    sort!(entries; by=entry -> (entry.span, entry.name))
    finish = 0
    for (; name, span) in entries
        rule = "it must be $finish, without gap or overlap"
        require(span[1] == finish, "$name begins at byte $(span[1]); $rule")
        finish = span[2]
    end
    available = total - 8 - Int(length)
    require(finish == available, "the tensors need $finish bytes, the file holds $available")
    check_digest(file, metadata)
    tensors = Dict{String,Array}()
    for (; name, type, shape) in entries
        tensors[name] = mmap ? map_array(file, type, shape) : read_array(file, type, shape)
    end
    return tensors, metadata
end

read_array(file, ::Type{BFloat16}, shape) =
    reinterpret.(Float32, UInt32.(read_array(file, UInt16, shape)) .<< 16)

"The array as pages of the file; a copy if it is empty or not aligned."
function map_array(file, type, shape)
    offset, bytes = position(file), sizeof(type) * prod(shape)
    aligned = offset % Base.datatype_alignment(type) == 0
    has_julia_layout = type !== Bool && type !== BFloat16
    has_julia_layout && bytes > 0 && aligned || return read_array(file, type, shape)
    array = Mmap.mmap(file, Array{type,length(shape)}, shape, offset; grow=false)
    seek(file, offset + bytes)
    return array
end

"Name, element type, size (in Julia's order) and byte range of a tensor; throws an `ArgumentError` if it breaks a rule."
function checked_entry(name, entry)
    fields = entry isa AbstractDict ? keys(entry) : ()
    require(
        issubset(("dtype", "shape", "data_offsets"), fields),
        "$name must have dtype, shape and data_offsets. Received: $(json_excerpt(entry))",
    )
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    known = haskey(READ_BY_NAME, dtype)
    require(known, "$name: dtype must be one of $READ_NAMES. Received: $(json_excerpt(dtype))")
    require(is_counts(shape), "$name: shape must be whole numbers, at least 0. Received: $(json_excerpt(shape))")
    require(length(shape) <= MAX_AXES, "$name has $(length(shape)) axes; at most $MAX_AXES are allowed")
    is_pair = is_counts(span) && length(span) == 2
    require(is_pair, "$name: data_offsets must be two whole numbers. Received: $(json_excerpt(span))")
    type, summary, shape = READ_BY_NAME[dtype], "$name of $dtype $(json_excerpt(shape))", Int.(shape)
    bytes = checked_product((sizeof(type), shape...))
    require(!isnothing(bytes), "$summary has more bytes than 64 bits count")
    received = Int128(span[2]) - span[1]
    require(bytes == received, "$summary has $bytes bytes, its data_offsets $received")
    return (; name, type, shape=Tuple(reverse(shape)), span=(Int(span[1]), Int(span[2])))
end
