using MobileNets: load, read_weights, save, write_tensors

folder = mktempdir()
path, again = joinpath(folder, "a.safetensors"), joinpath(folder, "b.safetensors")

@testset "a model comes back to the bit, and is written to the same bytes: $T" for
    T in (Float32, Float64)

    model = build(TINY; seed=2, dtype=T)
    @test save(path, model) == path
    loaded = load(path)
    @test (loaded.config, get_state(loaded)) == (model.config, get_state(model))
    save(again, loaded)
    @test read(path) == read(again)
end

@testset "moments and metadata travel along" begin
    model = build(TINY)
    optimizer = setup(TrainConfig(; optimizer="adam"), model)
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

@testset "a file of another kind, version or config is refused, and named" begin
    save(path, build(TINY))
    tensors, metadata = MobileNets.read_tensors(path)
    refused(; tensors=tensors, metadata...) = begin
        merged = merge(metadata_of, Dict(string(k) => v for (k, v) in metadata))
        write_tensors(again, tensors, filter(pair -> !isnothing(pair[2]), merged))
        text = message(() -> load(again), WeightsError)
        @test startswith(text, again)
        text
    end
    metadata_of = Dict{String,Union{Nothing,String}}(metadata)
    @test occursin("format_version must be \"1\"", refused(; format_version="2"))
    @test occursin("format_version must be \"1\"", refused(; format_version=nothing))
    @test occursin("not JSON", refused(; config="{"))
    @test occursin("width_mult must be", refused(; config="""{"width_mult":9}"""))
    @test occursin("metadata: ", refused(; versions="[]"))
    @test occursin("must have shape", refused(; config=to_json(
        MobileNetConfig(; width_mult=0.1, resolution=32, num_classes=8)
    )))
    @test occursin("Float32 or Float64", refused(;
        tensors=merge(tensors, Dict("classifier.weight" => zeros(UInt8, 1)))
    ))
    bad = merge(tensors, Dict("stem.norm.bias" => fill(Inf32, 3)))
    @test occursin("stem.norm.bias must be finite", refused(; tensors=bad))
end

@testset "a model that is not finite is not written" begin
    save(path, build(TINY))
    before = read(path)
    model = build(TINY; seed=1)
    model.stem.norm.bias[1] = NaN
    @test occursin("stem.norm.bias must be finite", message(() -> save(path, model), WeightsError))
    @test read(path) == before
end
