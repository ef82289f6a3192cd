# The exchange file: safetensors, written canonically. Format:
# https://github.com/huggingface/safetensors (README, "Format"): eight bytes of header length, a JSON
# header, the tensors' bytes. Equal content means equal bytes, in Python and in Julia:
#
# - tensors lie in order of falling item size, then of name (in bytes), without gaps;
# - the header has `__metadata__` first with its keys sorted, then the tensors in that order, each with
#   the keys dtype, shape, data_offsets; no spaces between; ASCII with \u escapes;
# - the header is padded with spaces to a multiple of eight bytes.

const WRITTEN_TYPES =
    Dict{Type,String}(Float64 => "F64", Float32 => "F32", Int64 => "I64", UInt8 => "U8")

"The upper half of a `Float32`, as which it is read."
primitive type BFloat16 16 end

const READ_TYPES = (
    "BOOL" => Bool, "U8" => UInt8, "I8" => Int8, "U16" => UInt16, "I16" => Int16, "F16" => Float16,
    "BF16" => BFloat16, "U32" => UInt32, "I32" => Int32, "F32" => Float32, "U64" => UInt64,
    "I64" => Int64, "F64" => Float64,
)
const READ_NAMES, READ_BY_NAME = join(first.(READ_TYPES), ", "), Dict(READ_TYPES)

"The format's own limit on the header, in bytes."
const MAX_HEADER = 100_000_000

"NumPy's limit on the axes of an array; the format has none, and Julia compiles code for each number."
const MAX_AXES = 64

"Tensor names as they lie in the file."
function file_order(tensors)
    return sort!(collect(keys(tensors)); by=name -> (-sizeof(eltype(tensors[name])), codeunits(name)))
end

"The length and the header of the canonical file, without the tensors' bytes."
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

Write named arrays and text metadata as a canonical safetensors file, atomically. Axes are reversed in
the header, so that the file holds torch's shapes and bytes. Throws a `WeightsError` for an element
type other than `Float64`, `Float32`, `Int64` and `UInt8`.
"""
function write_tensors(path, tensors, metadata=Dict{String,String}())
    tensors = Dict{String,AbstractArray}(tensors)
    header = encode_header(tensors, Dict{String,String}(metadata))
    atomic_write(path) do file
        write(file, header)
        for name in file_order(tensors)
            write(file, collect(tensors[name]))
        end
    end
end

"""
    atomic_write(f, path)

Call `f(io)` on a file that appears at `path` whole, or not at all: bytes go to a temporary name in the
same folder, are flushed to the disk and renamed.
"""
function atomic_write(f, path)
    path = String(path)
    temporary = tempname(dirname(abspath(path)); cleanup=false)
    try
        open(temporary, "w") do file
            f(file)
            flush(file)
            sync(file)
        end
        Base.Filesystem.rename(temporary, path)
    catch
        rm(temporary; force=true)
        rethrow()
    end
    return path
end

function sync(file::IOStream)
    descriptor = Base.Libc.RawFD(fd(file))
    status = Sys.iswindows() ? ccall(:_commit, Cint, (Base.RawFD,), descriptor) :
             ccall(:fsync, Cint, (Base.RawFD,), descriptor)
    return systemerror("fsync", status != 0)
end

"""
    MobileNets.read_tensors(path; mmap=false) -> tensors, metadata

Read a safetensors file: `Dict` of name => array, with the axes of the file's shapes reversed, and the
metadata as a `Dict` of text. Throws a `WeightsError` that names file and rule for a file that is missing
or breaks the format; nothing larger than the file is allocated before it is found whole.

With `mmap` the arrays lie in the file itself, where its alignment allows, and cannot be written to
(`ReadOnlyMemoryError`). They are read when they are used: the file must stay as it is for as long as
they live. A file replaced by another of its name, as `write_tensors` does, stays; bytes changed in place
show in the arrays unchecked, and a file truncated in place ends the process with a bus error. Hence
the copy by default.
"""
function read_tensors(path; mmap=false)
    isfile(path) || throw(WeightsError("$path: no such file"))
    try
        return open(file -> read_safetensors(file, mmap), path)
    catch error
        refusal = rule_broken(error)
        throw(WeightsError("$path ($(filesize(path)) bytes) is no whole safetensors file: $refusal"))
    end
end

"What a reader's error says about the file; any other error goes on."
rule_broken(error::ArgumentError) = error.msg
rule_broken(::EOFError) = "it ends early"
rule_broken(::Any) = rethrow()

require(rule, message) = rule || throw(ArgumentError(message))

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
    metadata = checked_texts(pop!(header, "__metadata__", Dict{String,Any}()), "__metadata__")
    entries = [checked_entry(name, entry) for (name, entry) in header]
    sort!(entries; by=entry -> (entry.span, entry.name))
    finish = 0
    for (; name, span) in entries
        rule = "it must be $finish, without gap or overlap"
        require(span[1] == finish, "$name begins at byte $(span[1]); $rule")
        finish = span[2]
    end
    held = total - 8 - Int(length)
    require(finish == held, "the tensors need $finish bytes, the file holds $held")
    tensors = Dict{String,Array}()
    for (; name, type, shape) in entries
        tensors[name] = mmap ? mapped(file, type, shape) : copied(file, type, shape)
    end
    return tensors, metadata
end

copied(file, type, shape) = read!(file, Array{type}(undef, shape))

"The file's Bools as bytes: any byte but 0 is true, where one in a Julia Bool would be undefined."
copied(file, ::Type{Bool}, shape) = Array(copied(file, UInt8, shape) .!= 0)

copied(file, ::Type{BFloat16}, shape) =
    reinterpret.(Float32, UInt32.(copied(file, UInt16, shape)) .<< 16)

"The array in the file's own pages, or a copy where it is empty or out of step with its alignment."
function mapped(file, type, shape)
    offset, bytes = position(file), sizeof(type) * prod(shape)
    aligned = offset % Base.datatype_alignment(type) == 0
    isstored = type !== Bool && type !== BFloat16
    isstored && bytes > 0 && aligned || return copied(file, type, shape)
    array = Mmap.mmap(file, Array{type,length(shape)}, shape, offset; grow=false)
    seek(file, offset + bytes)
    return array
end

"One tensor's name, element type, size in Julia's order and span of bytes, or the rule it breaks."
function checked_entry(name, entry)
    fields = entry isa AbstractDict ? keys(entry) : ()
    require(
        issubset(("dtype", "shape", "data_offsets"), fields),
        "$name must have dtype, shape and data_offsets. Received: $(shown(entry))",
    )
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    known = haskey(READ_BY_NAME, dtype)
    require(known, "$name: dtype must be one of $READ_NAMES. Received: $(shown(dtype))")
    require(iscounts(shape), "$name: shape must be whole numbers, at least 0. Received: $(shown(shape))")
    require(length(shape) <= MAX_AXES, "$name has $(length(shape)) axes; at most $MAX_AXES are allowed")
    ispair = iscounts(span) && length(span) == 2
    require(ispair, "$name: data_offsets must be two whole numbers. Received: $(shown(span))")
    type, described, shape = READ_BY_NAME[dtype], "$name of $dtype $(shown(shape))", Int.(shape)
    bytes = checked_product((sizeof(type), shape...))
    require(!isnothing(bytes), "$described has more bytes than 64 bits count")
    received = Int128(span[2]) - span[1]
    require(bytes == received, "$described has $bytes bytes, its data_offsets $received")
    return (; name, type, shape=Tuple(reverse(shape)), span=(Int(span[1]), Int(span[2])))
end

"The product of `counts` from the left, or `nothing` where it passes the largest `Int`."
function checked_product(counts)
    product = 1
    for count in counts
        product, overflow = Base.Checked.mul_with_overflow(product, Int(count))
        overflow && return nothing
    end
    return product
end

iscounts(values) = values isa AbstractVector && all(iscount, values)
iscount(value) = value isa Integer && !(value isa Bool) && 0 <= value <= typemax(Int)
