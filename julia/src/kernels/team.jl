# Threads that share work. Between two layers of a small model there is less time than a task takes to start, so a
# call can start a thread team: helper tasks that stay awake and take chunks of work. Late helpers are skipped: the
# caller computes the chunks that no helper has taken.

"""
A function of (chunk, range) for the `chunks` ranges of `1:count`, and the number of chunks issued before this job.
One type for all functions, so that the scheduling is compiled once; mutable, so that a team holds its address.
"""
mutable struct Job
    const f::Any
    const count::Int
    const chunks::Int
    const issued_before::Int
end

"A thread team. Chunks are numbered through all jobs; the counters are those `issued`, `taken` and `done`."
mutable struct Team
    @atomic job::Job
    @atomic issued::Int
    @atomic taken::Int
    @atomic done::Int
    @atomic is_open::Bool
    @atomic failure::Any
end
Team(is_open=true) = Team(Job(nothing, 0, 0, 0), 0, 0, 0, is_open, nothing)

"Key of the team in the storage of its task."
const TEAM_KEY = :MobileNetsTeam

"""
    with_team(f)

Call `f()` with one thread team for all calls of [`parallel`](@ref) by this task, with a helper on each other Julia
thread. The helpers stay awake until `f` returns, so `f` should not wait for anything else.
"""
function with_team(f::F) where {F}
    isnothing(current_team()) || return f()
    team = start_team()
    try
        return task_local_storage(f, TEAM_KEY, team)
    finally
        @atomic team.is_open = false
    end
end

current_team() = get(task_local_storage(), TEAM_KEY, nothing)::Union{Team,Nothing}

function start_team()
    team = Team()
    foreach(thread -> schedule(helper_task(team, thread)), helper_threads())
    return team
end

"""
The Julia threads of the helpers: one less than there are threads, because the calling thread works as well. A thread
that Julia has adopted, as one of Python's, is none of them; then the first one, whose task runs the event loop, is left
out.
"""
function helper_threads()
    threads = filter(!=(Threads.threadid()), Threads.threadpooltids(:default))
    return last(threads, Threads.nthreads() - 1)
end

"""
A task for a helper of `team`, which stays on `thread`: a task that may move wakes all threads whenever it yields, also
one that has nothing to do and takes a core from the others. It has its team, so that a job that is called by a chunk
starts no other one.
"""
function helper_task(team, thread)
    task = Task(() -> task_local_storage(() -> help(team), TEAM_KEY, team))
    task.sticky = true
    ccall(:jl_set_task_tid, Cint, (Any, Cint), task, thread - 1)
    return task
end

"""
    parallel(f, count, min_size=1)

Call `f(chunk, range)` for consecutive ranges that cover `1:count`: one for each Julia thread, but each of at least
`min_size` items. `chunk` counts them from 1 to `chunk_count(count, min_size)`. What `f` writes for one range must
not be read for another.
"""
function parallel(f::F, count::Int, min_size::Int=1) where {F}
    chunks = chunk_count(count, min_size)
    chunks == 1 ? (@noinline f(1, 1:count)) : run_on_team(f, count, chunks) # both call code that is compiled once
    return nothing
end

"""
    run_on_team(f, count, chunks)

Call `f(chunk, range)` for `chunks` ranges that cover `1:count`, more than there are threads if threads may take
unequal time. Jobs of `f` itself are computed by the thread that calls it.
"""
function run_on_team(@nospecialize(f), count, chunks)
    current = current_team()
    team = @something current start_team()
    try
        run_job(team, Job(f, count, chunks, (@atomic team.issued)))
    finally
        isnothing(current) && @atomic team.is_open = false
    end
end

function run_job(team, job)
    if (@atomic team.done) < job.issued_before # called by a chunk of another job
        return foreach(chunk -> job.f(chunk, chunk_range(job, chunk)), 1:job.chunks)
    end
    @atomic team.job = job
    @atomic team.issued = job.issued_before + job.chunks
    while take_chunk(team, job) end
    idle = 0
    while (@atomic team.done) < job.issued_before + job.chunks
        idle = spin(idle)
    end
    isnothing(@atomic team.failure) || throw(@atomicswap team.failure = nothing)
end

chunk_range((; count, chunks)::Job, chunk) = ((chunk - 1) * count ÷ chunks + 1):(chunk * count ÷ chunks)

"The loop of a helper: take chunks until the team is closed."
function help(team)
    idle = 0
    while @atomic team.is_open
        has_worked = (@atomic team.taken) < (@atomic team.issued) && take_chunk(team, @atomic team.job)
        idle = has_worked ? 0 : spin(idle)
        idle % SPINS_PER_YIELD == 0 && !has_worked && yield() # to the caller, in case it waits for something else
    end
end

"Compute a chunk of the job that no thread has taken. Returns false if there is none."
function take_chunk(team, job)
    taken = @atomic team.taken
    while job.issued_before <= taken < job.issued_before + job.chunks
        (; old, success) = @atomicreplace team.taken taken => taken + 1
        success || (taken = old; continue)
        chunk = taken + 1 - job.issued_before
        try
            job.f(chunk, chunk_range(job, chunk))
        catch error
            @atomic team.failure = error
        end
        @atomic team.done += 1
        return true
    end
    return false
end

"Spins of an idle thread before it yields the processor."
const SPINS_PER_YIELD = 256

"Pause for a moment; every `SPINS_PER_YIELD` times yield the processor, which the thread waited for may need."
function spin(idle)
    GC.safepoint()
    ccall(:jl_cpu_pause, Cvoid, ())
    idle % SPINS_PER_YIELD == SPINS_PER_YIELD - 1 && yield_processor()
    return idle + 1
end

@static if Sys.iswindows()
    yield_processor() = ccall((:SwitchToThread, "kernel32"), stdcall, Cint, ())
else
    yield_processor() = ccall(:sched_yield, Cint, ())
end
