"""
    on_own_stack(f)

`f()`, called in a task of its own, for functions that follow the nesting of foreign data. A task that runs out of stack
throws a `StackOverflowError`. On the stack of a thread that was not started by Julia, as Python's are, it can end the
process: Julia takes the address behind such a stack for any bad address (`segv_handler` in its src/signals-unix.c).
"""
function on_own_stack(f)
    task = @task try
        Some(f())
    catch error
        error
    end
    outcome = fetch(schedule(task))
    outcome isa Some || throw(outcome)
    return something(outcome)
end
