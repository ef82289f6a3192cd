using MobileNets: read_tensors, write_tensors

folder = mktempdir()
path = joinpath(folder, "file.safetensors")

"The error of a file with this header and `bytes` zeros as data."
function forged(header, bytes; length=ncodeunits(header))
    open(path, "w") do io
        write(io, htol(UInt64(length)), header, zeros(UInt8, bytes))
    end
    return message(() -> read_tensors(path), WeightsError)
end

entry(dtype, shape, from, to) =
    """{"dtype":"$dtype","shape":$shape,"data_offsets":[$from,$to]}"""

@testset "a file has exactly these bytes" begin
    tensors = ["b" => Float32[1 2 3; 4 5 6], "a" => [1.5], "é" => UInt8[7], "n" => fill(3)]
    write_tensors(path, tensors, Dict("z" => "\"", "y" => "1"))
    header =
        """{"__metadata__":{"y":"1","z":"\\""},""" *
        """"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},""" *
        """"n":{"dtype":"I64","shape":[],"data_offsets":[8,16]},""" *
        """"b":{"dtype":"F32","shape":[3,2],"data_offsets":[16,40]},""" *
        """"\\u00e9":{"dtype":"U8","shape":[1],"data_offsets":[40,41]}}"""
    header = rpad(header, 8cld(ncodeunits(header), 8))
    data = vcat(reinterpret(UInt8, [1.5]), reinterpret(UInt8, [3]),
        reinterpret(UInt8, Float32[1, 4, 2, 5, 3, 6]), UInt8[7])
    @test read(path) == [reinterpret(UInt8, [ncodeunits(header)]); codeunits(header); data]
    @test read_tensors(path) == (Dict(tensors), Dict("z" => "\"", "y" => "1"))
end

@testset "all that the format allows is read" begin
    write_tensors(path, Dict("empty" => zeros(Float32, 0, 3)))
    @test size(read_tensors(path)[1]["empty"]) == (0, 3)
    forged_path = """{"h":$(entry("F16", "[2]", 0, 4)),"b":$(entry("BOOL", "[1]", 4, 5))}"""
    open(io -> write(io, htol(UInt64(ncodeunits(forged_path))), forged_path, zeros(UInt8, 5)), path, "w")
    @test read_tensors(path)[1] == Dict("h" => zeros(Float16, 2), "b" => [false])
    extra = """{"a":{"note":[1],"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}  """
    open(io -> write(io, htol(UInt64(ncodeunits(extra))), extra, 0x02, 0x00), path, "w")
    @test reinterpret(UInt8, read_tensors(path)[1]["a"]) == [1, 0]
    half = """{"a":$(entry("BF16", "[2]", 0, 4))}"""
    open(io -> write(io, htol(UInt64(ncodeunits(half))), half, 0x80, 0x3f, 0x20, 0xc0), path, "w")
    for mmap in (false, true)
        @test read_tensors(path; mmap)[1] == Dict("a" => Float32[1, -2.5])
    end
end

@testset "mapped arrays are pages of the file if they are aligned, and copies otherwise" begin
    tensors = Dict("b" => Float32[1 2 3; 4 5 6], "a" => [1.5], "u" => UInt8[7], "e" => zeros(0, 3))
    write_tensors(path, tensors)
    mapped, _ = read_tensors(path; mmap=true)
    @test mapped == tensors && mapped["b"] isa Matrix{Float32}
    @test_throws ReadOnlyMemoryError mapped["b"][1] = 2
    write_tensors(path, Dict("b" => zeros(Float32, 2, 3)))
    @test mapped == tensors # the replaced file still exists, without a name
    header = """{"u":$(entry("U8", "[1]", 0, 1)),"b":$(entry("F32", "[2]", 1, 9))}"""
    bytes = [0x07; reinterpret(UInt8, Float32[1, 2])]
    open(io -> write(io, htol(UInt64(ncodeunits(header))), header, bytes), path, "w")
    for mmap in (false, true)
        @test read_tensors(path; mmap)[1] == Dict("u" => UInt8[7], "b" => Float32[1, 2])
    end
end

@testset "a file that claims a hundred gigabytes does not allocate them" begin
    header = """{"a":$(entry("F32", "[25000000000]", 0, 100000000000))}"""
    @test occursin("the file holds 8", forged(header, 8))
    read_forged() = @test_throws WeightsError read_tensors(path)
    read_forged()
    @test (@allocated read_forged()) < 10^6
end

@testset "a file that breaks the format is rejected with its name and the rule" begin
    good = """{"a":$(entry("F32", "[2]", 0, 8))}"""
    @test occursin("holds 7", forged(good, 7))
    @test occursin("holds 9", forged(good, 9))
    @test occursin("does not fit", forged(good, 0; length=10^6))
    @test occursin("at most 100000000", forged(good, 0; length=10^9))
    @test occursin("at most", forged(good, 0; length=typemax(UInt64)))
    @test occursin("begin with '{'", forged(" " * good, 8))
    @test occursin("not JSON", forged(good[1:(end - 1)], 8))
    @test occursin("UTF-8", forged("{\"\xff\":1}", 0))
    @test occursin("dtype must be one of BOOL", forged(replace(good, "F32" => "F31"), 8))
    @test occursin("has 8 bytes, its data_offsets 12", forged(replace(good, "0,8" => "0,12"), 12))
    @test occursin("shape must be", forged(replace(good, "[2]" => "[-2]"), 8))
    @test occursin("shape must be", forged(replace(good, "[2]" => "[2.0]"), 8))
    @test occursin("shape must be", forged(replace(good, "[2]" => "[true,2]"), 8))
    @test occursin("two whole numbers", forged(replace(good, "0,8" => "false,8"), 8))
    @test occursin("must have dtype", forged("""{"a":{"dtype":"F32"}}""", 0))
    @test occursin("must have dtype", forged("""{"a":3}""", 0))
    @test occursin("Received: \"F4\"", forged(replace(good, "F32" => "F4"), 8))
    axes = "[" * join(fill(1, 65), ",") * "]"
    @test occursin("65 axes", forged("""{"a":$(entry("F32", axes, 0, 4))}""", 4))
    @test occursin("surrogate", forged(replace(good, "\"a\"" => "\"\\ud800\""), 8))
    @test occursin("surrogate", forged("""{"__metadata__":{"a":"\\udc00"}}""", 0))
    @test occursin("object of strings", forged("""{"__metadata__":{"a":1}}""", 0))
    huge = """{"a":$(entry("F32", "[4611686018427387904,4]", 0, 0))}"""
    @test occursin("more bytes than 64 bits count", forged(huge, 0))
    huge = """{"a":$(entry("F32", "[2305843009213693952]", 0, 4))}"""
    @test occursin("more bytes than 64 bits count", forged(huge, 4))
    large = """{"a":$(entry("F32", "[1152921504606846975]", 0, 4))}"""
    @test occursin("has 4611686018427387900 bytes", forged(large, 4))
    two(from, to) = """{"a":$(entry("F32", "[1]", 0, 4)),"b":$(entry("F32", "[1]", from, to))}"""
    @test occursin("b begins at byte 8; it must be 4", forged(two(8, 12), 12))
    @test occursin("begins at byte 0; it must be 4", forged(two(0, 4), 4))
    @test occursin("twice", forged(replace(two(4, 8), "\"b\"" => "\"a\""), 8))
    write(path, "short")
    @test occursin("eight bytes", message(() -> read_tensors(path), WeightsError))
    absent = joinpath(folder, "absent")
    @test message(() -> read_tensors(absent), WeightsError) == "$absent: no such file"
end

@testset "a write that fails leaves the old file unchanged and no other" begin
    write(path, "old")
    @test_throws WeightsError write_tensors(path, Dict("a" => [1im]))
    @test_throws "disk full" Files.atomic_write(path) do io
        write(io, "new")
        error("disk full")
    end
    @test read(path, String) == "old"
    @test readdir(folder) == ["file.safetensors"]
end

@testset "a changed bit in the tensors of a model's file is an error" begin
    metadata = Dict("format_version" => "1", "config" => "{}")
    write_tensors(path, Dict("a" => Float32[1 2 3]), metadata)
    good = read(path)
    @test read_tensors(path)[2] == metadata
    for byte in (length(good) - 11, length(good)), bit in 0:7
        damaged = copy(good)
        damaged[byte] ⊻= 0x01 << bit
        write(path, damaged)
        @test occursin("the SHA-256 of its tensors must be", message(() -> read_tensors(path), WeightsError))
    end
    other = Dict("tensors_sha256" => "its own")
    write_tensors(path, Dict("a" => Float32[1 2 3]), other)
    @test read_tensors(path)[2] == other
end

const ELEMENTS = Dict("F64" => Float64, "F32" => Float32, "I64" => Int64, "U8" => UInt8)

"The array of a tensor in the vectors."
function vector_tensor(entry)
    values = collect(reinterpret(ELEMENTS[entry["dtype"]], hex2bytes(entry["hex"])))
    return reshape(values, reverse(Int.(entry["shape"]))...)
end

@testset "files are those of the shared vectors: $(case["name"])" for case in vectors("safetensors")["cases"]
    tensors = Dict{String,Array}(entry["name"] => vector_tensor(entry) for entry in case["tensors"])
    metadata = Dict{String,String}(case["metadata"])
    mktempdir() do folder
        write_tensors(joinpath(folder, "vector.safetensors"), tensors, metadata)
        path = joinpath(folder, "vector.safetensors")
        @test bytes2hex(read(path)) == case["file"]
        read_back, read_metadata = read_tensors(path)
        @test isequal(read_back, tensors) && read_metadata == metadata
    end
end
