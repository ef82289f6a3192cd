# Several processes, played by tasks of this one; MPI itself is in test/peers.

using Flux: Flux, DistributedUtils
using MobileNets: hand_out!, mean!

"Where tasks meet: what each brings, what all had brought the last time, and how often they have met."
mutable struct Meeting
    const brought::Vector{Array}
    const all_here::Threads.Condition
    found::Vector{Array}
    arrived::Int
    times::Int
end
Meeting(count) = Meeting(Vector{Array}(undef, count), Threads.Condition(), [], 0, 0)

struct Tasks <: Flux.AbstractFluxDistributedBackend
    rank::Int
    meeting::Meeting
end

"What all tasks have brought, when they have."
function meet((; rank, meeting)::Tasks, array)
    lock(meeting.all_here) do
        now = meeting.times
        meeting.brought[rank + 1] = copy(array)
        meeting.arrived += 1
        if meeting.arrived == length(meeting.brought)
            meeting.found = copy(meeting.brought)
            meeting.arrived, meeting.times = 0, now + 1
            notify(meeting.all_here)
        end
        while meeting.times == now
            wait(meeting.all_here)
        end
        return meeting.found
    end
end

function DistributedUtils.__allreduce!(tasks::Tasks, array, op, _)
    brought = meet(tasks, array)
    op === DistributedUtils.avg && return array .= sum(brought) ./ length(brought)
    return array .= op.(brought...)
end
DistributedUtils.__bcast!(tasks::Tasks, array, device; root) = copyto!(array, meet(tasks, array)[root + 1])

"What `f(processes)` gives in each of `count` tasks."
function together(f, count)
    meeting, found = Meeting(count), Vector{Any}(undef, count)
    @sync for rank in 0:(count - 1)
        @async try
            found[rank + 1] = f(Processes(rank, count, Tasks(rank, meeting)))
        catch error
            lock(() -> notify(meeting.all_here, error; error=true), meeting.all_here)
            rethrow()
        end
    end
    return found
end

const IMAGES, LABELS = example(Float64; batch=8)
const RECIPE = (; batch_size=8, clip_norm=0.1, weight_decay=0.01, ema_decay=0.9)

"State and results of `steps` steps of all processes."
function stepped(config, count, x, labels; steps=2, masks=nothing)
    return together(count) do processes
        model, workspace = build(TINY; dtype=Float64), Workspace()
        optimizer = setup(config, model)
        taken = [
            train_step!(model, optimizer, x, labels, 0.1; masks, workspace, processes) for _ in 1:(steps - 1)
        ]
        loss, gradients = train_step!(model, optimizer, x, labels, 0.1; masks, workspace, processes)
        return (; loss, gradients=deepcopy(gradients), state=deepcopy(get_state(model, optimizer)), taken)
    end
end

@testset "a step is the mean of the shares, and statistics are the first ones" for parts in (1, 2)
    count = 2
    factors = Float64.(reshape(1:(8 * size(build(TINY).classifier.weight, 1)), :, 8) .% 3)
    found = stepped(
        TrainConfig(; RECIPE..., accumulate=parts), count, IMAGES, LABELS;
        steps=1, masks=Dict{String,Array}("dropout" => factors),
    )
    alone = build(TINY; dtype=Float64)
    cut(range) = (IMAGES[:, :, :, range], LABELS[range], Dict{String,Array}("dropout" => factors[:, range]))
    shares = [cut(range) for range in Iterators.partition(1:8, 8 ÷ (count * parts))]
    wanted = [loss_and_grads(alone, x, y; masks) for (x, y, masks) in shares]
    one = setup(TrainConfig(; momentum=0), alone)
    for (x, y, masks) in shares[1:count:end]
        train_step!(alone, one, x, y, 0.0; masks)
    end
    for process in found
        @test process.loss ≈ sum(first, wanted) / length(shares) rtol = 1e-14
        for (k, (_, gradient)) in enumerate(process.gradients)
            @test gradient ≈ sum(last(share)[k][2] for share in wanted) ./ length(shares) rtol = 1e-12
        end
        running = filter(contains("running"), first.(process.state))
        @test all(name -> Dict(process.state)[name] == Dict(get_state(alone))[name], running)
    end
end

@testset "all processes end with the same bits" for count in (2, 4)
    config = TrainConfig(; RECIPE..., optimizer="adam")
    found = stepped(config, count, IMAGES, LABELS; steps=3)
    @test allequal(process.state for process in found) && allequal(process.loss for process in found)
    alone = only(stepped(config, 1, IMAGES, LABELS; steps=3))
    @test alone.state != found[1].state # norms see a share
end

@testset "fit! trains together" begin
    rng = StableRNG(1)
    images, labels = rand(rng, UInt8, 16, 16, 3, 24), rand(rng, 0:6, 24)
    config = TrainConfig(; batch_size=8, steps=4)
    found = together(2) do processes
        model = build(TINY; dtype=Float64)
        return fit!(model, images, labels, config; processes), get_state(model)
    end
    @test found[1] == found[2]
    model = build(TINY; dtype=Float64)
    @test fit!(model, images, labels, config; processes=Processes()) != found[1][1]
    @test length(found[1][1]) == 4
end

@testset "what does not go into shares is refused, and the model stays" begin
    text = "images must go into 6 equal parts, the optimizer's accumulate times the processes. Received: 8 images"
    model = build(TINY; dtype=Float64)
    optimizer = setup(TrainConfig(; accumulate=2), model)
    processes = Processes(0, 3, Tasks(0, Meeting(3)))
    @test message(() -> train_step!(model, optimizer, IMAGES, LABELS, 0.1; processes), DataError) == text
    @test get_state(model) == get_state(build(TINY; dtype=Float64)) && optimizer.step[] == 0
end

@testset "one process meets nobody" begin
    alone, array = Processes(), [1.0, 2.0]
    @test mean!(alone, array) === hand_out!(alone, array) === array == [1.0, 2.0]
    @test MobileNets.anywhere(alone, true) && !MobileNets.anywhere(alone, false)
    @test (alone.rank, alone.count) == (0, 1)
end

@testset "any of the processes can stop all" begin
    @test together(processes -> MobileNets.anywhere(processes, processes.rank == 1), 3) == [true, true, true]
    @test together(processes -> MobileNets.anywhere(processes, false), 3) == [false, false, false]
end

@testset "without MPI.jl there is nobody to join" begin
    text = message(join_processes, ConfigError)
    @test startswith(text, "several processes meet through MPI.jl: add it to the project")
end
