"""
    parallel(f, n)

Call `f(range)` for consecutive ranges that cover `1:n`, one for each Julia thread. What `f` computes
for one index must depend on no other index.
"""
function parallel(f::F, n::Int) where {F}
    precompiling = ccall(:jl_generating_output, Cint, ()) != 0 # on one thread, for several
    parts = min(n, precompiling ? 2 : Threads.nthreads())
    parts <= 1 && return f(1:n)
    @sync for part in 1:parts
        Threads.@spawn f(((part - 1) * n ÷ parts + 1):(part * n ÷ parts))
    end
    return nothing
end

"Call `f()` with BLAS on one thread if Julia has several, so that the two do not fight over the cores."
function one_blas_thread(f)
    threads = BLAS.get_num_threads()
    (threads == 1 || Threads.nthreads() == 1) && return f()
    BLAS.set_num_threads(1)
    try
        return f()
    finally
        BLAS.set_num_threads(threads)
    end
end

"The maps `x` (W, H, C, N) as (W*H, C, N)."
planes(x::Array{T,4}) where {T} = reshape(x, size(x, 1) * size(x, 2), size(x, 3), size(x, 4))
