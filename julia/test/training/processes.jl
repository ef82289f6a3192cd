# Several processes, simulated by tasks of this one; MPI itself is tested by Python's tests/peers.

using Flux: Flux, DistributedUtils
using MobileNets: any_rank
using MobileNets.Training: all_mean!, bcast!

"A collective operation of several tasks: the arrays of each, those of the last completed one, and their number."
mutable struct Exchange
    const arrays::Vector{Array}
    const complete::Threads.Condition
    last_arrays::Vector{Array}
    arrived::Int
    completed::Int
end
Exchange(count) = Exchange(Vector{Array}(undef, count), Threads.Condition(), [], 0, 0)

struct Tasks <: Flux.AbstractFluxDistributedBackend
    rank::Int
    exchange::Exchange
end

"The arrays of all tasks, once each has called this."
function all_gather((; rank, exchange)::Tasks, array)
    lock(exchange.complete) do
        number = exchange.completed
        exchange.arrays[rank + 1] = copy(array)
        exchange.arrived += 1
        if exchange.arrived == length(exchange.arrays)
            exchange.last_arrays = copy(exchange.arrays)
            exchange.arrived, exchange.completed = 0, number + 1
            notify(exchange.complete)
        end
        while exchange.completed == number
            wait(exchange.complete)
        end
        return exchange.last_arrays
    end
end

function DistributedUtils.__allreduce!(tasks::Tasks, array, op, _)
    arrays = all_gather(tasks, array)
    op === DistributedUtils.avg && return array .= sum(arrays) ./ length(arrays)
    return array .= op.(arrays...)
end
DistributedUtils.__bcast!(tasks::Tasks, array, device; root) =
    copyto!(array, all_gather(tasks, array)[root + 1])

"The results of `f(processes)` in each of `count` tasks."
function run_tasks(f, count)
    exchange, results = Exchange(count), Vector{Any}(undef, count)
    @sync for rank in 0:(count - 1)
        @async try
            results[rank + 1] = f(Processes(rank, count, Tasks(rank, exchange)))
        catch error
            lock(() -> notify(exchange.complete, error; error=true), exchange.complete)
            rethrow()
        end
    end
    return results
end

const IMAGES, LABELS = example(Float64; batch=8)
const RECIPE = (; batch_size=8, clip_norm=0.1, weight_decay=0.01, ema_decay=0.9)

"State and results of all processes after `steps` steps."
function train_tasks(config, count, x, labels; steps=2, masks=nothing)
    return run_tasks(count) do processes
        model, workspace = MobileNet(TINY; dtype=Float64), Workspace()
        optimizer = setup_optimizer(config, model)
        for _ in 1:(steps - 1)
            train_step!(model, optimizer, x, labels, 0.1; masks, workspace, processes)
        end
        loss, gradients = train_step!(model, optimizer, x, labels, 0.1; masks, workspace, processes)
        return (; loss, gradients=deepcopy(gradients), state=deepcopy(get_state(model, optimizer)))
    end
end

@testset "a step is the mean over all shards, with the statistics of the first: $micro_batches micro-batches" for
    micro_batches in (1, 2)

    count = 2
    factors = Float64.(reshape(1:(8 * size(MobileNet(TINY).classifier.weight, 1)), :, 8) .% 3)
    processes = train_tasks(
        TrainConfig(; RECIPE..., accumulate=micro_batches), count, IMAGES, LABELS;
        steps=1, masks=Dict{String,Array}("dropout" => factors),
    )
    alone = MobileNet(TINY; dtype=Float64)
    shard(range) = (IMAGES[:, :, :, range], LABELS[range], Dict{String,Array}("dropout" => factors[:, range]))
    shards = [shard(range) for range in Iterators.partition(1:8, 8 ÷ (count * micro_batches))]
    results = [loss_and_grads(alone, x, y; masks) for (x, y, masks) in shards]
    optimizer = setup_optimizer(TrainConfig(; momentum=0), alone)
    for (x, y, masks) in shards[1:count:end]
        train_step!(alone, optimizer, x, y, 0.0; masks)
    end
    for process in processes
        @test process.loss ≈ sum(first, results) / length(shards) rtol = 1e-14
        for (k, (_, gradient)) in enumerate(process.gradients)
            @test gradient ≈ sum(last(result)[k][2] for result in results) ./ length(shards) rtol = 1e-12
        end
        running = filter(contains("running"), first.(process.state))
        @test all(name -> Dict(process.state)[name] == Dict(get_state(alone))[name], running)
    end
end

@testset "all processes have the same bits: $count" for count in (2, 4)
    config = TrainConfig(; RECIPE..., optimizer=:adam)
    processes = train_tasks(config, count, IMAGES, LABELS; steps=3)
    @test allequal(process.state for process in processes)
    @test allequal(process.loss for process in processes)
    alone = only(train_tasks(config, 1, IMAGES, LABELS; steps=3))
    @test alone.state != processes[1].state # the norms have other batches
end

@testset "fit! trains with several processes" begin
    rng = StableRNG(1)
    images, labels = rand(rng, UInt8, 16, 16, 3, 24), rand(rng, 0:6, 24)
    config = TrainConfig(; batch_size=8, steps=4)
    results = run_tasks(2) do processes
        model = MobileNet(TINY; dtype=Float64)
        return fit!(model, images, labels, config; processes), get_state(model)
    end
    @test results[1] == results[2]
    model = MobileNet(TINY; dtype=Float64)
    @test fit!(model, images, labels, config; processes=Processes()) != results[1][1]
    @test length(results[1][1]) == 4
end

@testset "a batch that cannot be divided into shards is rejected, and the model does not change" begin
    text = "the number of images must be a multiple of 6, the optimizer's accumulate times the number of processes. " *
        "Received: 8 images"
    model = MobileNet(TINY; dtype=Float64)
    optimizer = setup_optimizer(TrainConfig(; accumulate=2), model)
    processes = Processes(0, 3, Tasks(0, Exchange(3)))
    @test message(() -> train_step!(model, optimizer, IMAGES, LABELS, 0.1; processes), DataError) == text
    @test get_state(model) == get_state(MobileNet(TINY; dtype=Float64)) && optimizer.step[] == 0
end

@testset "the collective operations of a single process do nothing" begin
    alone, array = Processes(), [1.0, 2.0]
    @test all_mean!(alone, array) === bcast!(alone, array) === array == [1.0, 2.0]
    @test any_rank(alone, true) && !any_rank(alone, false)
    @test (alone.rank, alone.count) == (0, 1)
end

@testset "a condition in any of the processes holds in all" begin
    @test run_tasks(processes -> any_rank(processes, processes.rank == 1), 3) == [true, true, true]
    @test run_tasks(processes -> any_rank(processes, false), 3) == [false, false, false]
end

@testset "join_processes requires MPI.jl" begin
    text = message(join_processes, ConfigError)
    @test startswith(text, "several processes require MPI.jl: add it to the project")
end
