using MobileNets.Files: NPY_MAGIC, read_file, write_npz, write_zip
using Base64: base64decode
using SHA: sha256

folder = mktempdir()
path = joinpath(folder, "file.npz")
read_npz(path) = read_file(path)

"The error of a file with these bytes."
function rejection(bytes)
    write(path, bytes)
    return message(() -> read_npz(path), WeightsError)
end

"An .npz with one stored member with this content."
function single(content; name="a.npy")
    io = IOBuffer()
    write_zip(io, [(name, content)])
    return take!(io)
end

"An .npy with this header and `count` zeros as data."
function npy(header, count; version=0x01)
    text = rpad(header, 117) * "\n"
    return [NPY_MAGIC; version; 0x00; UInt8(118); 0x00; codeunits(text); zeros(UInt8, count)]
end
header(; descr="'<f4'", order="False", shape="(2,)") =
    "{'descr': $descr, 'fortran_order': $order, 'shape': $shape, }"

"NumPy 2's `savez_compressed(x=asfortranarray(arange(6, dtype='>f4').reshape(2, 3)), flag=[True, False])`."
const COMPRESSED = base64decode(
    "UEsDBC0AAAAIAAAAIQAJ2dGP//////////8FABQAeC5ucHkBABAAmAAAAAAAAABWAAAAAAAAAJvsF+obEMnIUMZQrZ6S" *
    "WpxcpG6loG6XZqKuo6Cell9UUpSYF59flJIKEg8pKk0FChdnJBakArkaRjoKxpo6CrUK5AMuBiBwcGBgsG8A0iAM4i9g" *
    "YAAAUEsDBC0AAAAIAAAAIQDuGbtd//////////8IABQAZmxhZy5ucHkBABAAggAAAAAAAABGAAAAAAAAAJvsF+obEMnI" *
    "UMZQrZ6SWpxcpG6loF6TZKiuo6Cell9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GkY6mjoKtQoUAC5GBgBQSwECLQMt" *
    "AAAACAAAACEACdnRj1YAAACYAAAABQAAAAAAAAAAAAAAgAEAAAAAeC5ucHlQSwECLQMtAAAACAAAACEA7hm7XUYAAACC" *
    "AAAACAAAAAAAAAAAAAAAgAGNAAAAZmxhZy5ucHlQSwUGAAAAAAIAAgBpAAAADQEAAAAA",
)

"The bytes with those at `at` (from 0) replaced by `value`."
function patched(bytes, at, value)
    changed = copy(bytes)
    new = reinterpret(UInt8, [htol(value)])
    changed[(at + 1):(at + length(new))] = new
    return changed
end
"The position of the first entry of a zip's directory (from 0)."
directory(bytes) = first(findlast([0x50, 0x4b, 0x01, 0x02], bytes)) - 1

@testset "a file has the bytes that pymobilenet.formats.npz writes" begin
    tensors = Dict("b" => Float32[1 2 3; 4 5 6], "a" => [1.5], "é" => UInt8[7], "n" => fill(3),
        "e" => zeros(Float32, 2, 0))
    metadata = Dict("z" => "\"é", "y" => "1")
    write_npz(path, tensors, metadata)
    @test bytes2hex(sha256(read(path))) ==
          "44a6a5c75db136bb2f6921401b718dcd095e86e45bfea004ca0e0bd17e1a353e"
    @test read_npz(path) == (tensors, metadata)
end

@testset "NumPy's own files are read: deflated, big-endian, in Fortran order, Bools" begin
    write(path, COMPRESSED)
    tensors, metadata = read_npz(path)
    @test tensors == Dict("x" => Float32[0 3; 1 4; 2 5], "flag" => [true, false])
    @test tensors["x"] isa Matrix{Float32} && isempty(metadata)
end

@testset "a member that is not .npy is rejected with the file, the member and the rule" begin
    good = npy(header(), 8)
    write(path, single(good))
    @test read_npz(path)[1] == Dict("a" => zeros(Float32, 2))
    @test occursin("a.npy: shape [2] of f4 needs 8 bytes, it holds 9", rejection(single([good; 0x00])))
    huge = npy(header(shape="(4611686018427387904, 4)"), 0)
    @test occursin("has more bytes than 64 bits count", rejection(single(huge)))
    @test occursin("whole numbers", rejection(single(npy(header(shape="(99999999999999999999,)"), 8))))
    @test occursin("needs 4 bytes, it holds 8", rejection(single(npy(header(shape="()"), 8))))
    @test occursin("must have a header as NumPy writes it", rejection(single(npy(header(shape="(-2,)"), 8))))
    @test occursin("a header as NumPy", rejection(single(npy(header(descr="[('a', '<f4')]"), 8))))
    @test occursin("a header as NumPy", rejection(single(npy("__import__('os')", 8))))
    twice = replace(header(), "'fortran_order': False" => "'shape': (2,)")
    @test occursin("must be there, once", rejection(single(npy(twice, 8))))
    @test occursin("dtype must be one of", rejection(single(npy(header(descr="'|O8'"), 8))))
    @test occursin("dtype must be one of", rejection(single(npy(header(descr="'<U2'"), 8))))
    @test occursin("65 axes", rejection(single(
        [npy("", 0)[1:8]; 0xf6; 0x00; codeunits(rpad(header(shape="($(repeat("1,", 65)))"), 246)); zeros(UInt8, 4)]
    )))
    @test occursin("1.0 or 2.0", rejection(single(npy(header(), 8; version=0x03))))
    @test occursin("must begin as .npy", rejection(single(UInt8[1, 2, 3])))
    @test occursin("ends early", rejection(single(good[1:60])))
    @test occursin("must be .npy. Received: \"a.txt\"", rejection(single(good; name="a.txt")))
    for name in ("/a.npy", "../a.npy", "b\\a.npy", "b/../a.npy", "\0.npy")
        @test occursin("must be relative", rejection(single(good; name)))
    end
    @test occursin("uint8 of one axis", rejection(single(good; name="__metadata__.npy")))
    io = IOBuffer()
    write_zip(io, [("a.npy", good), ("a.npy", good)])
    @test occursin("twice", rejection(take!(io)))
end

@testset "the claims of a zip are checked before memory is allocated" begin
    bytes = single(npy(header(), 8))
    entry = directory(bytes)
    @test occursin("not a valid npz", rejection(bytes[1:(end - 30)]))
    @test occursin("stored in 136 bytes, and declares 10", rejection(patched(bytes, entry + 24, UInt32(10))))
    @test occursin("declares the checksum 10", rejection(patched(bytes, entry + 16, UInt32(10))))
    @test occursin("overlap", rejection(patched(bytes, entry + 20, UInt32(10^6))))
    @test occursin("may unpack to 67108864 at most", rejection(patched(bytes, entry + 24, UInt32(10^8))))
    @test occursin("must have at most 2147483647 bytes", rejection(patched(bytes, entry + 24, typemax(UInt32))))
    @test occursin("not encrypted", rejection(patched(bytes, entry + 8, UInt16(1))))
    @test occursin("stored or deflated", rejection(patched(bytes, entry + 10, UInt16(12))))
    @test occursin("no header at byte 7", rejection(patched(bytes, entry + 42, UInt32(7))))
    @test occursin("the same name in its header. Received: \"b.npy\"", rejection(patched(bytes, 30, UInt8('b'))))
    @test occursin("ends early", rejection(patched(bytes, entry + 42, UInt32(10^6))))
    @test occursin("directory is broken", rejection(patched(bytes, length(bytes) - 6, UInt32(3))))
    @test occursin("directory is broken", rejection(patched(bytes, length(bytes) - 12, UInt16(2))))
end

@testset "deflated bytes unpack to the declared size, or are rejected" begin
    entry = directory(COMPRESSED)
    @test occursin("does not unpack to the 1000", rejection(patched(COMPRESSED, entry + 24, UInt32(1000))))
    @test occursin("does not unpack to the 20", rejection(patched(COMPRESSED, entry + 24, UInt32(20))))
    damaged = patched(COMPRESSED, 80, 0xffffffff)
    @test occursin(r"does not unpack|checksum", rejection(damaged))
    @test (@allocated rejection(patched(COMPRESSED, entry + 24, UInt32(6 * 10^7)))) < 2 * 10^8
end

@testset "unsupported element types are rejected" begin
    @test occursin("only", message(() -> write_npz(path, Dict("a" => [1im]), Dict()), WeightsError))
end
