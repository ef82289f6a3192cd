using Flux
using MobileNets.Tracing: LayerRecord, from_file, run_layer, trace

struct Unit{C,N,F}
    conv::C
    norm::N
    activation::F
end
Flux.@layer Unit
(unit::Unit)(x) = unit.activation.(unit.norm(unit.conv(x)))

struct FixedConv # its field has one type: it cannot hold a recorder
    weight::Matrix{Float32}
end
Flux.@layer FixedConv
(layer::FixedConv)(x) = layer.weight * x

struct Holder{T}
    held::T
end
Flux.@layer Holder
(holder::Holder)(x) = foldl((y, k) -> holder.held[k](y), keys(holder.held); init=x)

rng = StableRNG(1)
model = Chain(
    Conv((3, 2), 3 => 4, relu; pad=(1, 1, 0, 1), stride=(2, 1)),
    Unit(Conv((1, 1), 4 => 4; bias=false), BatchNorm(4), identity),
    SkipConnection(Chain(CrossCor((3, 3), 4 => 4; pad=1), GroupNorm(4, 2, gelu)), +),
    MaxPool((2, 2)), GlobalMeanPool(), Flux.flatten, Dense(4 => 5, tanh), Dropout(0.5), softmax,
)
x = randn(rng, Float64, 12, 8, 3, 2)

@testset "every leaf layer is recorded with its path, kind and settings" begin
    records, output = trace(model, x)
    @test [record.name => record.kind for record in records] == [
        "layers[1]" => "conv", "layers[1].σ" => "activation",
        "layers[2].conv" => "conv", "layers[2].norm" => "batch_norm",
        "layers[3].layers.layers[1]" => "conv", "layers[3].layers.layers[2]" => "group_norm",
        "layers[3].layers.layers[2].σ" => "activation", "layers[3].connection" => "add",
        "layers[4]" => "max_pool", "layers[5]" => "mean_pool", "layers[6]" => "flatten",
        "layers[7]" => "dense", "layers[7].σ" => "activation", "layers[8]" => "dropout", "layers[9]" => "softmax",
    ]
    @test output == last(records).output
    @test output ≈ Flux.testmode!(Flux.f64(deepcopy(model)))(x) rtol = 1e-11 # whose norms have Float32 constants
    settings = Dict(first(records).settings)
    @test settings["padding"] == [(0, 1), (1, 1)] # torch's order: height, then width
    @test settings["stride"] == [1, 2]
    @test settings["flipped"] && !Dict(records[5].settings)["flipped"]
end

@testset "each record computes its output from its inputs" begin
    records, _ = trace(model, x)
    for record in records
        @test run_layer(record, record.inputs) == record.output
    end
end

@testset "the model itself stays as it is" begin
    before = deepcopy(Flux.state(model))
    trace(model, x; draw=3)
    @test Flux.state(model) == before
    @test eltype(model[1].weight) == Float32
end

@testset "constants of norms keep their decimal digits in Float64" begin
    norm = only(filter(record -> record.kind == "batch_norm", trace(model, x)[1]))
    @test Dict(norm.settings)["eps"] === 1e-5
end

@testset "a draw moves every weight by one unit in the last place" begin
    base, drawn = trace(model, x)[1], trace(model, x; draw=0)[1]
    for (a, b) in zip(base, drawn), ((_, v), (_, w)) in zip(a.params, b.params)
        a.kind == "batch_norm" && continue # its statistics are not moved
        @test all(abs.(v .- w) .== ifelse.(w .> v, nextfloat.(v) .- v, v .- prevfloat.(v)))
    end
    @test trace(model, x; draw=0)[2] != trace(model, x; draw=1)[2]
end

@testset "a layer that cannot be taken apart is recorded as a whole" begin
    records, _ = trace(Chain(FixedConv(ones(Float32, 2, 3)), relu), ones(Float32, 3, 2))
    @test [record.kind for record in records] == ["other", "activation"]
end

@testset "layers inside of tuples, vectors and named tuples are recorded" begin
    dense() = Dense(3 => 3)
    for (held, names) in (
        (dense(), dense()) => ["held[1]", "held[2]"], [dense(), relu] => ["held[1]", "held[2]"],
        (a=dense(), b=tanh) => ["held.a", "held.b"],
    )
        records, _ = trace(Holder(held), ones(Float32, 3, 2))
        @test [record.name for record in records] == names
    end
end

@testset "flatten of MLUtils is that of Flux" begin
    records, _ = trace(Chain(Flux.MLUtils.flatten, Flux.flatten), ones(Float32, 2, 3, 4, 2))
    @test [record.kind for record in records] == ["flatten", "flatten"]
end

@testset "a layer that is called twice has two records" begin
    dense = Dense(3 => 3)
    records, _ = trace(Parallel(+, dense, dense), ones(Float32, 3, 2))
    @test length(filter(record -> record.kind == "dense", records)) == 2
    @test allunique(record.name for record in records)
end

@testset "models are built by functions of a file" begin
    mktempdir() do folder
        path = joinpath(folder, "net.jl")
        write(path, "using Flux\nmake() = Chain(Dense(2 => 3), relu)\n")
        built = from_file(path, "make")
        @test length(trace(built, ones(Float32, 2, 1))[1]) == 2
        @test_throws ConfigError from_file(path, "other")
    end
end

@testset "models that return no array are refused" begin
    @test_throws ConfigError trace(x -> (x, x), ones(Float32, 2, 1))
end
