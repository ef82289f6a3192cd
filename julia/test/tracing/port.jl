using Flux
using JLD2: JLD2
using MobileNets.Tracing: layer_at, load_params!, save_state, trace

model = Chain(
    Conv((3, 3), 1 => 2), SkipConnection(Chain(BatchNorm(2)), +), LayerNorm((4, 4, 2)), Flux.flatten, Dense(32 => 2),
)

@testset "a layer is found by the path of its record" begin
    records, _ = trace(model, ones(Float32, 6, 6, 1, 2))
    for record in records
        record.kind in ("conv", "batch_norm", "layer_norm", "dense") || continue
        layer = layer_at(model, record.name)
        @test layer isa Union{Conv,BatchNorm,LayerNorm,Dense}
    end
    @test layer_at(model, "layers[2].layers.layers[1]") === model[2].layers[1]
end

@testset "parameters are copied into their fields" begin
    load_params!(model, "layers[2].layers.layers[1]", ["weight" => [2f0, 3f0], "running_var" => [4f0, 5f0]])
    @test model[2].layers[1].γ == [2, 3]
    @test model[2].layers[1].σ² == [4, 5]
    load_params!(model, "layers[3]", ["bias" => fill(7f0, 4, 4, 2)])
    @test all(==(7), model[3].diag.bias)
    @test_throws DimensionMismatch load_params!(model, "layers[5]", ["weight" => ones(Float32, 3, 32)])
end

@testset "a saved state is loaded by Flux alone" begin
    mktempdir() do folder
        path = joinpath(folder, "model.jld2")
        save_state(path, model)
        other = Chain(
            Conv((3, 3), 1 => 2), SkipConnection(Chain(BatchNorm(2)), +), LayerNorm((4, 4, 2)), Flux.flatten,
            Dense(32 => 2),
        )
        Flux.loadmodel!(other, JLD2.load(path, "model_state"))
        x = randn(StableRNG(1), Float32, 6, 6, 1, 2)
        @test other(x) == model(x)
    end
end
