"""
    parallel(f, n)

Call `f(range)` for consecutive ranges that cover `1:n`, one for each Julia thread.

What `f` computes for one index must depend on no other index: then the results are the same bits
for every number of threads.
"""
function parallel(f::F, n::Int) where {F}
    parts = min(n, Threads.nthreads())
    parts <= 1 && return f(1:n)
    @sync for part in 1:parts
        Threads.@spawn f(((part - 1) * n ÷ parts + 1):(part * n ÷ parts))
    end
    return nothing
end
