# NumPy's .npz. NPZ.jl is not used, because it allocates the size in a header before it looks at the bytes, transposes
# every array, and writes members in the order of a Dict.
#
# A zip of .npy members, one for each tensor, with torch's axes, and the metadata as the member `__metadata__`: the
# UTF-8 bytes of a JSON object of strings. Format of .npy:
# https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

const NPY_MAGIC = b"\x93NUMPY"
const NPZ_METADATA = "__metadata__"

"NumPy's name of an element type, without the byte order."
const NPY_TYPES = Dict{String,Type}(
    "b1" => Bool, "i1" => Int8, "i2" => Int16, "i4" => Int32, "i8" => Int64, "u1" => UInt8,
    "u2" => UInt16, "u4" => UInt32, "u8" => UInt64, "f2" => Float16, "f4" => Float32, "f8" => Float64,
)
const NPY_NAMES = Dict(type => name for (name, type) in NPY_TYPES)

"A header as NumPy writes it, with its three fields in any order."
const NPY_HEADER =
    r"^\{(?:\s*'(?:descr|fortran_order|shape)'\s*:\s*(?:'[^']*'|True|False|\([0-9, ]*\))\s*,?){3}\s*\}\s*$"

function read_npz(file)
    bytes = read(file)
    tensors = Dict{String,Array}()
    for member in zip_members(bytes)
        require(endswith(member.name, ".npy"), "members must be .npy. Received: $(repr(member.name))")
        tensors[chopsuffix(member.name, ".npy")] = npy_array(read_member(bytes, member), member.name)
    end
    text = pop!(tensors, NPZ_METADATA, UInt8[])
    received = "$(ndims(text)) of $(lowercase(string(eltype(text))))"
    rule = "$NPZ_METADATA must be bytes: uint8 of one axis"
    require(text isa Vector{UInt8}, "$rule. Received: $received")
    metadata = isempty(text) ? Dict{String,Any}() : parse_object(String(copy(text)))
    return tensors, checked_string_dict(metadata, NPZ_METADATA)
end

"The array of an .npy file, with its axes reversed; of an array in C order, those are the same bytes."
function npy_array(content, name)
    start = first(content, 6)
    is_npy = length(content) >= 10 && start == NPY_MAGIC
    require(is_npy, "$name must begin as .npy does. Received: $(bytes2hex(start))")
    version = "$(content[7]).$(content[8])"
    require(version in ("1.0", "2.0"), "$name must be .npy 1.0 or 2.0. Received: $version")
    size_type = version == "1.0" ? UInt16 : UInt32
    start = 8 + sizeof(size_type)
    header = String(range_at(content, start, Int(number_at(content, size_type, 8))))
    type, is_fortran, shape, order = npy_header(header, name)
    start += ncodeunits(header)
    available, bytes = length(content) - start, checked_product((sizeof(type), shape...))
    summary = "$name: shape $(json_excerpt(shape)) of $(NPY_NAMES[type])"
    require(!isnothing(bytes), "$summary has more bytes than 64 bits count")
    require(bytes == available, "$summary needs $bytes bytes, it holds $available")
    stream = seek(IOBuffer(content), start)
    values = read_array(stream, type, is_fortran ? shape : reverse(shape))
    order == '>' && (values .= ntoh.(values))
    return is_fortran ? permutedims(values, ndims(values):-1:1) : values
end

"Element type, whether in Fortran order, shape and byte order, from the header of an .npy file."
function npy_header(header, name)
    received = "Received: $(repr(first(header, 80)))"
    is_known = isascii(header) && occursin(NPY_HEADER, header)
    require(is_known, "$name must have a header as NumPy writes it. $received")
    field(key, pattern) = match(Regex("'$key'\\s*:\\s*$pattern"), header)
    descr = field("descr", "'([<>|=])([a-z][0-9])'")
    is_fortran, shape = field("fortran_order", "(True|False)"), field("shape", "\\(([0-9, ]*)\\)")
    require(
        !any(isnothing, (is_fortran, shape)), "$name: fortran_order and shape must be there, once. $received"
    )
    is_known = !isnothing(descr) && haskey(NPY_TYPES, descr[2])
    names = join(sort!(collect(keys(NPY_TYPES))), ", ")
    require(is_known, "$name: dtype must be one of $names. $received")
    sizes = tryparse.(Int, strip.(split(shape[1], ','; keepempty=false)))
    require(!any(isnothing, sizes), "$name: shape must be whole numbers. Received: ($(first(shape[1], 80)))")
    require(length(sizes) <= MAX_AXES, "$name has $(length(sizes)) axes; at most $MAX_AXES are allowed")
    return NPY_TYPES[descr[2]], is_fortran[1] == "True", Tuple(Int.(sizes)), descr[1][1]
end

"""
Write named arrays and metadata as an .npz file, atomically, with axes reversed and names sorted: equal bytes for equal
content, in Python too.
"""
function write_npz(path, tensors, metadata)
    members = Pair{String,Vector{UInt8}}[]
    for (name, array) in tensors
        haskey(NPY_NAMES, eltype(array)) || throw(WeightsError(
            "$name: only $(join(sort!(string.(keys(NPY_NAMES))), ", ")) can be written. " *
            "Received: $(eltype(array))",
        ))
        push!(members, name => npy_bytes(array))
    end
    text = json_text(sort!(collect(Dict{String,String}(metadata)); by=first))
    isempty(metadata) || push!(members, NPZ_METADATA => npy_bytes(Vector{UInt8}(text)))
    sort!(members; by=member -> codeunits(first(member)))
    return atomic_write(path) do file
        write_zip(file, [("$name.npy", content) for (name, content) in members])
    end
end

"An array as .npy 1.0, with its values at a multiple of 64 bytes, as NumPy aligns them."
function npy_bytes(array)
    order = sizeof(eltype(array)) == 1 ? '|' : '<'
    shape = reverse(size(array))
    shape_text = length(shape) == 1 ? "($(shape[1]),)" : "($(join(shape, ", ")))"
    text = "{'descr': '$order$(NPY_NAMES[eltype(array)])', 'fortran_order': False, 'shape': $shape_text, }"
    size_bytes = mod(-(10 + ncodeunits(text) + 1), 64) + ncodeunits(text) + 1
    header = rpad(text, size_bytes - 1) * "\n"
    io = IOBuffer()
    write(io, NPY_MAGIC, 0x01, 0x00, htol(UInt16(size_bytes)), header, collect(array))
    return take!(io)
end
