# Threads that share work. Between two layers of a small net there is less time than a task takes to start, so a
# call may gather a team: helpers that stay awake and take what there is to do. Nobody waits for a helper that has
# not come yet; whoever gathered the team does then what is left.

"""
A function of (part, range), the ranges of `1:count`, and how many parts were given out before it. One type for all
functions, so that what hands them out is compiled once; mutable, so that a team has its address.
"""
mutable struct Job
    const f::Any
    const count::Int
    const parts::Int
    const before::Int
end

"Parts are numbered through all jobs: how many were `given` out, `taken`, and are `done`."
mutable struct Team
    @atomic job::Job
    @atomic given::Int
    @atomic taken::Int
    @atomic done::Int
    @atomic is_open::Bool
    @atomic failure::Any
end
Team(is_open=true) = Team(Job(nothing, 0, 0, 0), 0, 0, 0, is_open, nothing)

const TEAM = :MobileNetsTeam

"""
    together(f)

`f()`, where all calls of [`parallel`](@ref) by this task have the same helpers, on all other Julia threads. They stay
awake until `f` returns, so it should wait for nothing else.
"""
function together(f::F) where {F}
    isnothing(own_team()) || return f()
    team = gathered()
    try
        return task_local_storage(f, TEAM, team)
    finally
        @atomic team.is_open = false
    end
end

own_team() = get(task_local_storage(), TEAM, nothing)::Union{Team,Nothing}

function gathered()
    team = Team()
    foreach(_ -> helper(team), 2:Threads.nthreads())
    return team
end

helper(team) = Threads.@spawn help(team)

"""
    parallel(f, count, least=1)

Call `f(part, range)` for consecutive ranges that cover `1:count`, one for each Julia thread but each of at
least `least`; `part` counts them from 1 to `part_count(count, least)`. What `f` writes for one range must be
nothing that it reads for another.
"""
function parallel(f::F, count::Int, least::Int=1) where {F}
    parts = part_count(count, least)
    parts == 1 ? (@noinline f(1, 1:count)) : share_out(f, count, parts) # both call what is compiled once
    return nothing
end

function share_out(@nospecialize(f), count, parts)
    found = own_team()
    team = @something found gathered()
    try
        give_out(team, Job(f, count, parts, (@atomic team.given)))
    finally
        isnothing(found) && @atomic team.is_open = false
    end
end

function give_out(team, job)
    if (@atomic team.done) < job.before # a part of another job has called
        return foreach(part -> job.f(part, share(job, part)), 1:job.parts)
    end
    @atomic team.job = job
    @atomic team.given = job.before + job.parts
    while take_part(team, job) end
    idle = 0
    while (@atomic team.done) < job.before + job.parts
        idle = stay_awake(idle)
    end
    isnothing(@atomic team.failure) || throw(@atomicswap team.failure = nothing)
end

share((; count, parts)::Job, part) = ((part - 1) * count ÷ parts + 1):(part * count ÷ parts)

function help(team)
    idle = 0
    while @atomic team.is_open
        found = (@atomic team.taken) < (@atomic team.given) && take_part(team, @atomic team.job)
        idle = found ? 0 : stay_awake(idle)
        idle % LOOKS == 0 && !found && yield() # to whoever gathered the team, if it waits for something else
    end
end

"Do a part of the job that nobody has taken. False if there is none."
function take_part(team, job)
    taken = @atomic team.taken
    while job.before <= taken < job.before + job.parts
        (; old, success) = @atomicreplace team.taken taken => taken + 1
        success || (taken = old; continue)
        part = taken + 1 - job.before
        try
            job.f(part, share(job, part))
        catch error
            @atomic team.failure = error
        end
        @atomic team.done += 1
        return true
    end
    return false
end

"Looks for work without a pause, before others may have the processor."
const LOOKS = 256

"Let a moment pass, and now and then another thread have the processor: it may be the one that is waited for."
function stay_awake(idle)
    GC.safepoint()
    ccall(:jl_cpu_pause, Cvoid, ())
    idle % LOOKS == LOOKS - 1 && offer_processor()
    return idle + 1
end

@static if Sys.iswindows()
    offer_processor() = ccall((:SwitchToThread, "kernel32"), stdcall, Cint, ())
else
    offer_processor() = ccall(:sched_yield, Cint, ())
end
