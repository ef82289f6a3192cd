# Zip files as NumPy writes them: members stored or deflated. ZipArchives.jl and ZipFile.jl are not used, because they
# decompress without a bound on the size, accept overlapping members, and write other header fields than Python's
# zipfile, whose bytes this file writes. Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT

const ZIP_LOCAL, ZIP_CENTRAL, ZIP_END = 0x04034b50, 0x02014b50, 0x06054b50
const ZIP_STORED, ZIP_DEFLATED = 0x0000, 0x0008

"64-bit sizes are not supported: files are smaller than this."
const ZIP_LIMIT = 2^31 - 1

"The size that a file may unpack to: this many times its own size, and for any file at least so many bytes."
const MAX_GROWTH, MIN_ALLOWANCE = 20, 2^26

struct ZipMember
    name::String
    method::UInt16
    crc::UInt32
    packed::Int
    size::Int
    offset::Int
end

"The little-endian integer of type `T` at byte `at` (from 0)."
function number_at(bytes, ::Type{T}, at) where {T}
    require(0 <= at && at + sizeof(T) <= length(bytes), "it ends early")
    return ltoh(reinterpret(T, bytes[(at + 1):(at + sizeof(T))])[1])
end
range_at(bytes, at, count) =
    (require(0 <= at && at + count <= length(bytes), "it ends early"); view(bytes, (at + 1):(at + count)))

"The members in the directory of a zip file, after checks of their names and sizes."
function zip_members(bytes)
    first_end = max(0, length(bytes) - 22 - 0xffff)
    at = findlast(at -> number_at(bytes, UInt32, at) == ZIP_END, first_end:(length(bytes) - 22))
    require(!isnothing(at), "it has no zip directory")
    at += first_end - 1
    count, offset = number_at(bytes, UInt16, at + 10), number_at(bytes, UInt32, at + 16)
    require(offset <= ZIP_LIMIT && count < 0xffff, "it is a zip of 64 bits")
    members = ZipMember[]
    cursor = Int(offset)
    for _ in 1:count
        member, cursor = zip_member(bytes, cursor)
        push!(members, member)
    end
    check_sizes(members, length(bytes))
    return members
end

function zip_member(bytes, at)
    require(number_at(bytes, UInt32, at) == ZIP_CENTRAL, "its zip directory is broken at byte $at")
    flags, method = number_at(bytes, UInt16, at + 8), number_at(bytes, UInt16, at + 10)
    crc = number_at(bytes, UInt32, at + 16)
    packed, size = number_at(bytes, UInt32, at + 20), number_at(bytes, UInt32, at + 24)
    name_length, extra, comment = (number_at(bytes, UInt16, at + k) for k in (28, 30, 32))
    name = String(range_at(bytes, at + 46, name_length))
    require(isvalid(name), "names must be UTF-8. Received: $(repr(name))")
    allowed = !startswith(name, '/') && !any(in(('\\', '\0')), name) &&
              !(".." in split(name, '/'))
    require(allowed, "names must be relative, without backslash and NUL. Received: $(repr(name))")
    is_supported = flags & 0x1 == 0 && method in (ZIP_STORED, ZIP_DEFLATED)
    received = "method $method, flags $flags"
    require(is_supported, "$name must be stored or deflated, and not encrypted. Received: $received")
    largest = max(packed, size)
    require(largest <= ZIP_LIMIT, "$name must have at most $ZIP_LIMIT bytes. Received: $largest")
    member = ZipMember(name, method, crc, packed, size, number_at(bytes, UInt32, at + 42))
    return member, at + 46 + Int(name_length) + extra + comment
end

function check_sizes(members, size)
    seen = Set{String}()
    for (; name) in members
        require(!(name in seen), "$name is in it twice")
        push!(seen, name)
    end
    packed = sum(member -> member.packed, members; init=0)
    require(packed <= size, "its members overlap: $packed bytes of them in $size")
    unpacked, allowance = sum(member -> member.size, members; init=0), max(MIN_ALLOWANCE, MAX_GROWTH * size)
    require(unpacked <= allowance, "$size bytes may unpack to $allowance at most. Received: $unpacked")
end

"The content of a member, with exactly the size and checksum that it declares."
function read_member(bytes, member)
    at = member.offset
    require(number_at(bytes, UInt32, at) == ZIP_LOCAL, "$(member.name) has no header at byte $at")
    name_length = number_at(bytes, UInt16, at + 26)
    name = String(range_at(bytes, at + 30, name_length))
    require(name == member.name, "$(member.name) must have the same name in its header. Received: $(repr(name))")
    start = at + 30 + Int(name_length) + number_at(bytes, UInt16, at + 28)
    packed = range_at(bytes, start, member.packed)
    if member.method == ZIP_STORED
        rule = "$(member.name) is stored in $(member.packed) bytes, and declares $(member.size)"
        require(member.packed == member.size, rule)
        content = collect(packed)
    else
        content = inflate(packed, member)
    end
    received = checksum(content)
    rule = "$(member.name) declares the checksum $(member.crc). Received: $received"
    require(received == member.crc, rule)
    return content
end

"zlib's z_stream."
mutable struct ZStream
    next_in::Ptr{UInt8}
    avail_in::Cuint
    total_in::Culong
    next_out::Ptr{UInt8}
    avail_out::Cuint
    total_out::Culong
    msg::Ptr{UInt8}
    state::Ptr{Cvoid}
    zalloc::Ptr{Cvoid}
    zfree::Ptr{Cvoid}
    opaque::Ptr{Cvoid}
    data_type::Cint
    adler::Culong
    reserved::Culong
end

"Inflate `packed` into exactly as many bytes as the member declares."
function inflate(packed, member)
    source, content = collect(packed), Vector{UInt8}(undef, member.size)
    GC.@preserve source content begin
        stream = ZStream(
            pointer(source), length(source), 0, pointer(content), length(content), 0, C_NULL, C_NULL,
            C_NULL, C_NULL, C_NULL, 0, 0, 0,
        )
        version = ccall((:zlibVersion, libz), Cstring, ())
        raw_deflate, finish, stream_end = -15, 4, 1
        status = ccall(
            (:inflateInit2_, libz), Cint, (Ref{ZStream}, Cint, Cstring, Cint), stream, raw_deflate,
            version, sizeof(ZStream),
        )
        require(status == 0, "zlib cannot begin: status $status")
        status = ccall((:inflate, libz), Cint, (Ref{ZStream}, Cint), stream, finish)
        ccall((:inflateEnd, libz), Cint, (Ref{ZStream},), stream)
        is_complete = status == stream_end && stream.total_out == member.size
        require(is_complete, "$(member.name) does not unpack to the $(member.size) bytes it declares")
    end
    return content
end

checksum(bytes::Vector{UInt8}) =
    UInt32(ccall((:crc32, libz), Culong, (Culong, Ptr{UInt8}, Cuint), 0, bytes, length(bytes)))

"""
Write a zip of stored members, (name, content) in this order, to `io`. Members are dated 1980-01-01 and have the header
fields of Python's zipfile on Unix.
"""
function write_zip(io, members)
    directory, offset = IOBuffer(), 0
    for (name, content) in members
        flags = isascii(name) ? 0x0000 : 0x0800 # UTF-8
        common = zip_bytes(
            flags, ZIP_STORED, 0x0000, 0x0021, checksum(content), UInt32(length(content)),
            UInt32(length(content)), UInt16(ncodeunits(name)), 0x0000,
        )
        local_header = [zip_bytes(ZIP_LOCAL, 0x0014); common]
        written = write(io, local_header, name, content)
        version_made_by, mode = 0x0314, UInt32(0o600) << 16
        write(directory, zip_bytes(ZIP_CENTRAL, version_made_by, 0x0014), common)
        write(directory, zip_bytes(0x0000, 0x0000, 0x0000, mode, UInt32(offset)), name)
        offset += written
        require(offset <= ZIP_LIMIT, "more than $ZIP_LIMIT bytes; write a .safetensors file")
    end
    entries, count = take!(directory), UInt16(length(members))
    return write(io, entries, zip_bytes(
        ZIP_END, 0x0000, 0x0000, count, count, UInt32(length(entries)), UInt32(offset), 0x0000
    ))
end

zip_bytes(numbers...) = reduce(vcat, reinterpret(UInt8, [htol(number)]) for number in numbers)
