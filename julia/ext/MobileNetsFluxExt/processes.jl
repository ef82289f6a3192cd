# Training with several processes, started by `mpiexec`, through Flux's DistributedUtils.

function Training.join_processes()
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

Training.any_rank((; backend)::Processes, condition::Bool) =
    only(DistributedUtils.allreduce!(backend, Int[condition], max)) == 1

Training.all_mean!((; backend)::Processes, array) = DistributedUtils.allreduce!(backend, array, DistributedUtils.avg)

Training.bcast!((; backend)::Processes, array) = DistributedUtils.bcast!(backend, array)
