using Test

const FILES = (
    "quality", "examples", "json", "config", "architecture", "philox", "kernels", "layers", "model", "state",
    "initial", "checks", "inference", "frozen", "entry", "precompile", "optimizers", "safetensors", "weights",
    "probe", "flux_chain", "npz", "sysimage", "containers", "bson", "batch_plan", "augment", "cifar", "schedules",
    "training", "processes", "device", "vectors",
)

"Run a file in a module of its own, so that its names, `model` say, mean nothing in the others."
function run_file(file)
    scope = Core.eval(Main, :(module $(Symbol("test_", file)) end))
    Core.eval(scope, :(using MobileNets, Test; using StableRNGs: StableRNG))
    Base.include(scope, joinpath(@__DIR__, "helpers.jl"))
    Base.include(scope, joinpath(@__DIR__, "$file.jl"))
end

@testset verbose=true "MobileNets" begin
    for file in (isempty(ARGS) ? FILES : ARGS)
        @testset "$file" begin
            run_file(file)
        end
    end
end
