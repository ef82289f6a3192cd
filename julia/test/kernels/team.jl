using MobileNets.Kernels: TEAM_KEY, Team, chunk_count, helper_task, helper_threads, parallel, with_team

"Spin until `condition` is true, at most ten seconds, without yielding the thread to another task."
function spin_until(condition)
    deadline = time() + 10
    while !condition()
        GC.safepoint()
        time() > deadline && error("timeout")
    end
end

"The results of `f(chunk)` for the chunks of a job, none of which ends before all have started."
function chunk_results(f)
    results, started = Vector{Any}(undef, chunk_count(100)), Threads.Atomic{Int}(0)
    parallel(100) do chunk, _
        Threads.atomic_add!(started, 1)
        spin_until(() -> started[] == length(results))
        results[chunk] = f(chunk)
    end
    return results
end
chunk_threads() = chunk_results(_ -> Threads.threadid())

@testset "ranges cover every item once, in numbered chunks: $name" for (name, run) in
    (("one team for all calls", with_team), ("a team for each call", f -> f()))

    run() do
        for n in (1, 2, 7, 100), min_size in (1, 30), _ in 1:20
            items, chunks = zeros(Int, n), zeros(Int, chunk_count(n, min_size))
            parallel(n, min_size) do chunk, range
                chunks[chunk] += 1
                items[range] .+= 1
            end
            @test all(==(1), items) && all(==(1), chunks)
            @test length(chunks) == 1 || n ÷ length(chunks) >= min_size
        end
    end
end

@testset "each chunk has its own thread" begin
    @test allunique(chunk_threads())
    @test with_team(() -> all(_ -> allunique(chunk_threads()), 1:20))
end

@testset "a chunk may call `parallel`" begin
    items = zeros(Int, 6, 100)
    with_team() do
        parallel(6) do _, rows
            for row in rows
                parallel((_, range) -> items[row, range] .+= 1, 100)
            end
        end
    end
    @test all(==(1), items)
end

@testset "an error in a chunk is thrown by the call, and the team continues: $failing" for
    failing in 1:chunk_count(100)
    with_team() do
        for _ in 1:20
            @test_throws "stop $failing" parallel((chunk, _) -> chunk == failing && error("stop $failing"), 100)
            @test sum(chunk_threads()) == sum(1:chunk_count(100))
        end
    end
end

@testset "a team belongs to one task, until the call ends" begin
    has_team() = haskey(task_local_storage(), TEAM_KEY)
    @test with_team(() -> (has_team(), fetch(Threads.@spawn has_team()), with_team(has_team))) == (true, false, true)
    @test !has_team()
    @test_throws "stop" with_team(() -> error("stop"))
    @test !has_team()
end

@testset "concurrent tasks have their own teams" begin
    sums = map(1:8) do k
        Threads.@spawn with_team() do
            map(1:50) do _
                items = zeros(Int, 100)
                parallel((_, range) -> items[range] .= k, 100)
                sum(items)
            end
        end
    end
    @test all(k -> all(==(100k), fetch(sums[k])), 1:8)
end

@testset "a call ends after all of its chunks" begin
    caller = current_task()
    function late(_)
        deadline = time() + 0.01
        current_task() === caller || spin_until(() -> time() > deadline)
        return true
    end
    for run in (f -> f(), with_team)
        @test run(() -> all(_ -> all(==(true), chunk_results(late)), 1:5))
    end
end

@testset "a helper stays on a thread of its own, which is not the caller's" begin
    threads = helper_threads()
    @test length(threads) == Threads.nthreads() - 1 && allunique([threads; Threads.threadid()])
    tasks = map(thread -> helper_task(Team(false), thread), threads)
    @test all(task -> task.sticky, tasks) && Threads.threadid.(tasks) == threads
    foreach(wait ∘ schedule, tasks)
end

@testset "helpers end with the call" begin
    tasks = Iterators.flatten((chunk_results(_ -> current_task()), with_team(() -> chunk_results(_ -> current_task()))))
    helpers = filter(!=(current_task()), collect(tasks))
    @test length(helpers) == 2 * (chunk_count(100) - 1)
    @test timedwait(() -> all(istaskdone, helpers), 10) == :ok
end
