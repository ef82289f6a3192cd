using MobileNets: TEAM, parallel, part_count, together

"Wait for `condition` to become true, at most ten seconds, without leaving the thread to another task."
function wait_awake(condition)
    deadline = time() + 10
    while !condition()
        GC.safepoint()
        time() > deadline && error("nobody came")
    end
end

"What `each(part)` gives for the parts of a job, of which none ends before all have begun."
function of_parts(each)
    found, begun = Vector{Any}(undef, part_count(100)), Threads.Atomic{Int}(0)
    parallel(100) do part, _
        Threads.atomic_add!(begun, 1)
        wait_awake(() -> begun[] == length(found))
        found[part] = each(part)
    end
    return found
end
threads_of_parts() = of_parts(_ -> Threads.threadid())

@testset "ranges cover everything once, in numbered parts, $name" for (name, run) in
    (("one team for all", together), ("one for each call", f -> f()))

    run() do
        for n in (1, 2, 7, 100), least in (1, 30), _ in 1:20
            seen, parts = zeros(Int, n), zeros(Int, part_count(n, least))
            parallel(n, least) do part, range
                parts[part] += 1
                seen[range] .+= 1
            end
            @test all(==(1), seen) && all(==(1), parts)
            @test length(parts) == 1 || n ÷ length(parts) >= least
        end
    end
end

@testset "each part has a thread of its own" begin
    @test allunique(threads_of_parts())
    @test together(() -> all(_ -> allunique(threads_of_parts()), 1:20))
end

@testset "a part may call for others" begin
    seen = zeros(Int, 6, 100)
    together() do
        parallel(6) do _, rows
            for row in rows
                parallel((_, range) -> seen[row, range] .+= 1, 100)
            end
        end
    end
    @test all(==(1), seen)
end

@testset "a part's error is the caller's, and the team goes on: part $failing" for failing in 1:part_count(100)
    together() do
        for _ in 1:20
            @test_throws "stop $failing" parallel((part, _) -> part == failing && error("stop $failing"), 100)
            @test sum(threads_of_parts()) == sum(1:part_count(100))
        end
    end
end

@testset "a team is of one task, until the call ends" begin
    has_team() = haskey(task_local_storage(), TEAM)
    @test together(() -> (has_team(), fetch(Threads.@spawn has_team()), together(has_team))) == (true, false, true)
    @test !has_team()
    @test_throws "stop" together(() -> error("stop"))
    @test !has_team()
end

@testset "several tasks at once have teams of their own" begin
    sums = map(1:8) do k
        Threads.@spawn together() do
            map(1:50) do _
                found = zeros(Int, 100)
                parallel((_, range) -> found[range] .= k, 100)
                sum(found)
            end
        end
    end
    @test all(k -> all(==(100k), fetch(sums[k])), 1:8)
end

@testset "a call ends when all of its parts have" begin
    caller = current_task()
    function late(_)
        wakes = time() + 0.01
        current_task() === caller || wait_awake(() -> time() > wakes)
        return true
    end
    for run in (f -> f(), together)
        @test run(() -> all(_ -> all(==(true), of_parts(late)), 1:5))
    end
end

@testset "helpers leave with the call" begin
    tasks = Iterators.flatten((of_parts(_ -> current_task()), together(() -> of_parts(_ -> current_task()))))
    helpers = filter(!=(current_task()), collect(tasks))
    @test length(helpers) == 2 * (part_count(100) - 1)
    @test timedwait(() -> all(istaskdone, helpers), 10) == :ok
end
