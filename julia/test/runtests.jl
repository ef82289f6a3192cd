# Each file runs in one of several processes, as most of the time is compilation, which uses a single core. Those that
# take longest come first, so that no process is left alone with one. Arguments select test files:
# `Pkg.test(test_args=["models/layers"])`.

using Distributed
using Test

const FILES = (
    "models/device", "quality", "tracing/train", "doctests", "readme",
    "configs/json", "configs/config", "configs/architecture",
    "philox/philox", "philox/normal",
    "kernels/threads", "kernels/team", "kernels/workspace", "kernels/activation", "kernels/lanes", "kernels/norm",
    "kernels/convolution", "kernels/unit", "kernels/head", "kernels/frozen_conv",
    "models/layers", "models/model", "models/state", "models/initial", "models/checks", "models/inference",
    "models/frozen", "models/frozen_call", "models/flux_chain", "models/part",
    "data/batch_plan", "data/augment", "data/preprocessing", "data/cifar",
    "training/schedules", "training/optimizers", "training/micro_batches", "training/processes", "training/fit",
    "files/safetensors", "files/npz", "files/containers", "files/bson", "files/infer_config", "files/weights",
    "files/probe",
    "tracing/trace", "tracing/port",
    "interop/layers", "interop/torch_module",
    "c_calls", "precompile", "sysimage", "without_flux",
)

const PROCESSES = min(4, Sys.CPU_THREADS)

files = isempty(ARGS) ? collect(FILES) : ARGS
pool = addprocs(min(PROCESSES, length(files)); exeflags="--threads=$(Threads.nthreads())")
@everywhere [1; pool] include($(joinpath(@__DIR__, "run_file.jl")))

@testset verbose=true "MobileNets" begin
    for results in pmap(results_of, WorkerPool(pool), files)
        Test.record(Test.get_testset(), results)
    end
end
