using MobileNets
using StableRNGs: StableRNG
using Test

include("helpers.jl")

@testset "MobileNets" begin
    for file in (
        "quality", "examples", "json", "config", "architecture", "philox", "kernels", "layers",
        "model", "state", "initial", "checks", "inference", "optimizers", "safetensors", "weights",
        "flux_chain", "npz", "containers",
        "batch_plan", "cifar", "training", "vectors",
    )
        @testset "$file" begin
            include("$file.jl")
        end
    end
end
