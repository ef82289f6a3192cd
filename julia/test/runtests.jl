# Arguments select test files: `Pkg.test(test_args=["models/layers"])`.

using Test

const FILES = (
    "quality", "doctests", "readme",
    "configs/json", "configs/config", "configs/architecture",
    "philox/philox", "philox/normal",
    "kernels/threads", "kernels/team", "kernels/workspace", "kernels/activation", "kernels/lanes", "kernels/norm",
    "kernels/convolution", "kernels/unit", "kernels/head", "kernels/frozen_conv",
    "models/layers", "models/model", "models/state", "models/initial", "models/checks", "models/inference",
    "models/frozen", "models/frozen_call", "models/flux_chain", "models/part", "models/device",
    "data/batch_plan", "data/augment", "data/preprocessing", "data/cifar",
    "training/schedules", "training/optimizers", "training/micro_batches", "training/processes", "training/fit",
    "files/safetensors", "files/npz", "files/containers", "files/bson", "files/infer_config", "files/weights",
    "files/probe",
    "tracing/trace", "tracing/port", "tracing/train",
    "interop/layers", "interop/torch_module",
    "c_calls", "precompile", "sysimage", "without_flux",
)

"Run a test file in a module of its own, so that its global names do not affect the other files."
function run_file(file)
    scope = Core.eval(Main, :(module $(Symbol("test_", replace(file, '/' => '_'))) end))
    Core.eval(scope, :(using MobileNets, Test; using Flux: Flux; using StableRNGs: StableRNG))
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
