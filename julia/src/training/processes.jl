# Training with several processes, started by `mpiexec`, through Flux's DistributedUtils.

"""
    Processes()

A single process: `rank` 0, `count` 1. [`join_processes`](@ref) returns several.
"""
struct Processes{B}
    rank::Int
    count::Int
    backend::B
end
Processes() = Processes(0, 1, nothing)

"""
    join_processes()

The [`Processes`](@ref) that `mpiexec` has started, for the keyword `processes` of [`train_step!`](@ref) and
[`fit!`](@ref), with `rank`, from 0, and `count`. Requires MPI.jl to be loaded; throws a `ConfigError` without it, and
if there is only one process.

```julia
using MobileNets, MPI # mpiexec -n 2 julia --project train.jl
processes = join_processes()
model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100))
images, labels = read_cifar100("cifar-100-binary") # the folder with train.bin
fit!(model, images, labels, TrainConfig(steps=100); processes)
processes.rank == 0 && MobileNets.save("trained.safetensors", model)
```
"""
function join_processes()
    isnothing(Base.get_extension(Flux, :FluxMPIExt)) && throw(ConfigError(
        "several processes require MPI.jl: add it to the project, and load it before. " *
        "Received: a Julia without it"
    ))
    DistributedUtils.initialize(Flux.MPIBackend) # with CUDA.jl loaded, each process selects its own GPU
    backend = DistributedUtils.get_distributed_backend(Flux.MPIBackend)
    count = DistributedUtils.total_workers(backend)
    count > 1 || throw(ConfigError(
        "join_processes requires several processes, started by the mpiexec of the MPI that MPI.jl uses " *
        "(`MPI.mpiexec()`): mpiexec -n 2 julia train.jl. Received: one process"
    ))
    return Processes(DistributedUtils.local_rank(backend), count, backend)
end

"""
    MobileNets.any_rank(processes, condition::Bool)

Whether `condition` is true in any of the processes, all of which must call this.
"""
any_rank(::Processes{Nothing}, condition::Bool) = condition
any_rank((; backend)::Processes, condition::Bool) =
    only(DistributedUtils.allreduce!(backend, Int[condition], max)) == 1

"Overwrite an array with its mean over all processes."
all_mean!(::Processes{Nothing}, array) = array
all_mean!((; backend)::Processes, array) = DistributedUtils.allreduce!(backend, array, DistributedUtils.avg)

"Overwrite an array with that of the first process."
bcast!(::Processes{Nothing}, array) = array
bcast!((; backend)::Processes, array) = DistributedUtils.bcast!(backend, array)
