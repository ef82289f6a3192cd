# Several processes that train one model together, as `mpiexec` starts them, by Flux's DistributedUtils.

"""
    Processes()

This process alone: number `rank` 0 of `count` 1. [`join_processes`](@ref) gives several.
"""
struct Processes{B}
    rank::Int
    count::Int
    backend::B
end
Processes() = Processes(0, 1, nothing)

"""
    join_processes()

All processes that `mpiexec` has started, for the `processes` of [`train_step!`](@ref) and [`fit!`](@ref):
`rank`, from 0, and `count`. Needs MPI.jl loaded. Throws a `ConfigError` without it, and where there is no
other process.

```julia
using MobileNets, MPI # mpiexec -n 2 julia --project train.jl
processes = join_processes()
model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100))
images, labels = read_cifar100("train.bin")
fit!(model, images, labels, TrainConfig(steps=100); processes)
processes.rank == 0 && MobileNets.save("trained.safetensors", model)
```
"""
function join_processes()
    isnothing(Base.get_extension(Flux, :FluxMPIExt)) && throw(ConfigError(
        "several processes meet through MPI.jl: add it to the project, and load it before. " *
        "Received: a Julia without it"
    ))
    DistributedUtils.initialize(Flux.MPIBackend) # with CUDA.jl loaded, each process takes a GPU of its own
    backend = DistributedUtils.get_distributed_backend(Flux.MPIBackend)
    count = DistributedUtils.total_workers(backend)
    count > 1 || throw(ConfigError(
        "join_processes is for processes that mpiexec starts, that of the MPI which MPI.jl uses " *
        "(`MPI.mpiexec()`): mpiexec -n 2 julia train.jl. Received: one process"
    ))
    return Processes(DistributedUtils.local_rank(backend), count, backend)
end

"Whether any of the processes says so; all have to ask."
anywhere(::Processes{Nothing}, found::Bool) = found
anywhere((; backend)::Processes, found::Bool) =
    only(DistributedUtils.allreduce!(backend, Int[found], max)) == 1

"Overwrite an array with its mean over all processes."
mean!(::Processes{Nothing}, array) = array
mean!((; backend)::Processes, array) = DistributedUtils.allreduce!(backend, array, DistributedUtils.avg)

"Overwrite an array with that of the first process."
hand_out!(::Processes{Nothing}, array) = array
hand_out!((; backend)::Processes, array) = DistributedUtils.bcast!(backend, array)
