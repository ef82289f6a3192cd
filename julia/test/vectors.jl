# What Python's test suite is held to as well: the files of test/vectors, written by hand there.
using SHA: sha256

@testset "initial weights are Python's: $(case["config"]), $(case["init"])" for
    case in vectors("initial_state")["cases"]

    config = from_json(MobileNetConfig, case["config"])
    state = get_state(build(config; seed=parse(UInt64, case["seed"]), init=case["init"]))
    for (name, wanted) in case["first"]
        values = vec(Dict(state)[name])[1:length(wanted)]
        @test string.(reinterpret(UInt32, values); base=16, pad=8) == wanted
    end
    bytes = reduce(vcat, (reinterpret(UInt8, vec(array)) for (_, array) in sort(collect(state); by=first)))
    @test bytes2hex(sha256(bytes)) == case["sha256"]
end

const ELEMENTS = Dict("F64" => Float64, "F32" => Float32, "I64" => Int64, "U8" => UInt8)

function tensor(entry)
    values = collect(reinterpret(ELEMENTS[entry["dtype"]], hex2bytes(entry["hex"])))
    return reshape(values, reverse(Int.(entry["shape"]))...)
end

@testset "files are Python's: $(case["name"])" for case in vectors("safetensors")["cases"]
    tensors = Dict{String,Array}(entry["name"] => tensor(entry) for entry in case["tensors"])
    metadata = Dict{String,String}(case["metadata"])
    mktempdir() do folder
        path = joinpath(folder, "file.safetensors")
        MobileNets.write_tensors(path, tensors, metadata)
        @test bytes2hex(read(path)) == case["file"]
        found, about = MobileNets.read_tensors(path)
        @test isequal(found, tensors)
        @test about == metadata
    end
end
