using MobileNets: load, read_weights, save, write_tensors

folder = mktempdir()
path, second_path = joinpath(folder, "a.safetensors"), joinpath(folder, "b.safetensors")

@testset "a model is read to the bit, and written to the same bytes: $T" for
    T in (Float32, Float64)

    model = MobileNet(TINY; seed=2, dtype=T)
    @test save(path, model) == path
    loaded = load(path)
    @test (loaded.config, get_state(loaded)) == (model.config, get_state(model))
    save(second_path, loaded)
    @test read(path) == read(second_path)
end

@testset "optimizer slots and metadata are written and read" begin
    model = MobileNet(TINY)
    optimizer = setup_optimizer(TrainConfig(; optimizer=:adam), model)
    x, labels = example(Float32)
    train_step!(model, optimizer, x, labels, 1e-3)
    versions = Dict("b" => "2", "a" => "1")
    save(path, model; optimizer, probe=false, versions, metadata=Dict("note" => "1"))
    file = read_weights(path)
    @test file.state == Dict(get_state(model, optimizer))
    @test file.config == TINY
    @test file.versions == Dict("a" => "1", "b" => "2")
    @test file.metadata == Dict("note" => "1")
    @test get_state(load(path)) == get_state(model)
end

@testset "a file of another format, version or config is rejected with its name" begin
    save(path, MobileNet(TINY))
    tensors, metadata = MobileNets.read_tensors(path)
    rejection(; tensors=tensors, metadata...) = begin
        merged = merge(metadata_of, Dict(string(k) => v for (k, v) in metadata))
        write_tensors(second_path, tensors, filter(pair -> !isnothing(pair[2]), merged))
        text = message(() -> load(second_path), WeightsError)
        @test startswith(text, second_path)
        text
    end
    metadata_of = Dict{String,Union{Nothing,String}}(metadata)
    @test occursin("format_version must be \"1\"", rejection(; format_version="2"))
    @test occursin("format_version must be \"1\"", rejection(; format_version=nothing))
    @test occursin("not JSON", rejection(; config="{"))
    @test occursin("width_mult must be", rejection(; config="""{"width_mult":9}"""))
    @test occursin("metadata: ", rejection(; versions="[]"))
    @test occursin("must have shape", rejection(; config=to_json(
        MobileNetConfig(; width_mult=0.1, resolution=32, num_classes=8)
    )))
    @test occursin("Float32 or Float64", rejection(;
        tensors=merge(tensors, Dict("classifier.weight" => zeros(UInt8, 1)))
    ))
    bad = merge(tensors, Dict("stem.norm.bias" => fill(Inf32, 3)))
    @test occursin("stem.norm.bias must be finite", rejection(; tensors=bad))
end

@testset "a model that is not finite is not written" begin
    save(path, MobileNet(TINY))
    before = read(path)
    model = MobileNet(TINY; seed=1)
    model.stem.norm.bias[1] = NaN
    @test occursin("stem.norm.bias must be finite", message(() -> save(path, model), WeightsError))
    @test read(path) == before
end
