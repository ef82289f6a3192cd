using MobileNets: read_tensors, write_tensors

folder = mktempdir()
path = joinpath(folder, "file.safetensors")

"A file with this header text and so many bytes of data."
function forged(header, bytes; length=ncodeunits(header))
    open(path, "w") do io
        write(io, htol(UInt64(length)), header, zeros(UInt8, bytes))
    end
    return message(() -> read_tensors(path), WeightsError)
end

entry(dtype, shape, from, to) =
    """{"dtype":"$dtype","shape":$shape,"data_offsets":[$from,$to]}"""

@testset "the file is these bytes" begin
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

@testset "what the format allows is read" begin
    write_tensors(path, Dict("empty" => zeros(Float32, 0, 3)))
    @test size(read_tensors(path)[1]["empty"]) == (0, 3)
    forged_path = """{"h":$(entry("F16", "[2]", 0, 4)),"b":$(entry("BOOL", "[1]", 4, 5))}"""
    open(io -> write(io, htol(UInt64(ncodeunits(forged_path))), forged_path, zeros(UInt8, 5)), path, "w")
    @test read_tensors(path)[1] == Dict("h" => zeros(Float16, 2), "b" => [false])
end

@testset "what breaks the format is refused with the file and the rule" begin
    good = """{"a":$(entry("F32", "[2]", 0, 8))}"""
    @test occursin("holds 7", forged(good, 7))
    @test occursin("holds 9", forged(good, 9))
    @test occursin("does not fit", forged(good, 0; length=10^6))
    @test occursin("at most 100000000", forged(good, 0; length=10^9))
    @test occursin("at most", forged(good, 0; length=typemax(UInt64)))
    @test occursin("begin with '{'", forged(" " * good, 8))
    @test occursin("not JSON", forged(good[1:(end - 1)], 8))
    @test occursin("UTF-8", forged("{\"\xff\":1}", 0))
    @test occursin("unknown dtype", forged(replace(good, "F32" => "F31"), 8))
    @test occursin("has 8 bytes, its data_offsets 12", forged(replace(good, "0,8" => "0,12"), 12))
    @test occursin("shape must be", forged(replace(good, "[2]" => "[-2]"), 8))
    @test occursin("shape must be", forged(replace(good, "[2]" => "[2.0]"), 8))
    @test occursin("exactly dtype", forged("""{"a":{"dtype":"F32"}}""", 0))
    @test occursin("exactly dtype", forged("""{"a":3}""", 0))
    @test occursin("object of strings", forged("""{"__metadata__":{"a":1}}""", 0))
    huge = """{"a":$(entry("F32", "[4611686018427387904,4]", 0, 0))}"""
    @test occursin("bytes, its data_offsets 0", forged(huge, 0))
    two(from, to) = """{"a":$(entry("F32", "[1]", 0, 4)),"b":$(entry("F32", "[1]", from, to))}"""
    @test occursin("b begins at byte 8; it must be 4", forged(two(8, 12), 12))
    @test occursin("begins at byte 0; it must be 4", forged(two(0, 4), 4))
    @test occursin("twice", forged(replace(two(4, 8), "\"b\"" => "\"a\""), 8))
    write(path, "short")
    @test occursin("eight bytes", message(() -> read_tensors(path), WeightsError))
    absent = joinpath(folder, "absent")
    @test message(() -> read_tensors(absent), WeightsError) == "$absent: no such file"
end

@testset "a write that fails leaves the old file and nothing else" begin
    write(path, "old")
    @test_throws WeightsError write_tensors(path, Dict("a" => [1im]))
    @test_throws "no luck" MobileNets.atomic_write(path) do io
        write(io, "new")
        error("no luck")
    end
    @test read(path, String) == "old"
    @test readdir(folder) == ["file.safetensors"]
end
