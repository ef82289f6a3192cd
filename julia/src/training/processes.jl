# Training with several processes, started by `mpiexec`. The extension of Flux has the methods for more than one.

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
[`fit!`](@ref), with `rank`, from 0, and `count`. Requires Flux and MPI.jl to be loaded; throws a `ConfigError` without it, and
if there is only one process.

```julia
using MobileNets, Flux, MPI # mpiexec -n 2 julia --project train.jl
processes = join_processes()
model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=100))
images, labels = read_cifar100("cifar-100-binary") # the folder with train.bin
fit!(model, images, labels, TrainConfig(steps=100); processes)
processes.rank == 0 && MobileNets.save("trained.safetensors", model)
```
"""
function join_processes end

"""
    MobileNets.any_rank(processes, condition::Bool)

Whether `condition` is true in any of the processes, all of which must call this.
"""
any_rank(::Processes{Nothing}, condition::Bool) = condition

"Overwrite an array with its mean over all processes."
all_mean!(::Processes{Nothing}, array) = array

"Overwrite an array with that of the first process."
bcast!(::Processes{Nothing}, array) = array
