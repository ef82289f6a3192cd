"""
    parallel(f, n, least=1)

Call `f(part, range)` for consecutive ranges that cover `1:n`, one for each Julia thread but each of at
least `least`; `part` counts them from 1 to `part_count(n, least)`. What `f` writes for one range must be
nothing that it reads for another.
"""
function parallel(f::F, n::Int, least::Int=1) where {F}
    parts = part_count(n, least)
    parts == 1 && return (f(1, 1:n); nothing)
    @sync for part in 1:parts
        Threads.@spawn f(part, ((part - 1) * n ÷ parts + 1):(part * n ÷ parts))
    end
    return nothing
end

"Multiply-adds that are worth a thread: some twenty microseconds, about as long as one takes to wake up."
const LEAST_WORK = 2^20

"The fewest items that are worth a thread, each being so many multiply-adds."
least_items(work) = cld(LEAST_WORK, work)

function part_count(n::Int, least::Int=1)
    precompiling = ccall(:jl_generating_output, Cint, ()) != 0 # on one thread, for several
    return clamp(n ÷ least, 1, precompiling ? 2 : Threads.nthreads())
end

"Call `f()` with BLAS on one thread if Julia has several, so that the two do not fight over the cores."
function one_blas_thread(f)
    Threads.nthreads() == 1 && return f()
    threads = BLAS.get_num_threads()
    threads == 1 && return f()
    BLAS.set_num_threads(1)
    try
        return f()
    finally
        BLAS.set_num_threads(threads)
    end
end

"""
    MobileNets.blas_report()

What multiplies the matrices: the `library`, the `core` whose kernels it chose and its `config` as it
reports them (empty where it is no OpenBLAS), its threads and Julia's. While a model runs, several Julia
threads each call it on one thread of its own; one Julia thread leaves it the threads it has.
"""
function blas_report()
    library = first(BLAS.lbt_get_config().loaded_libs).libname
    text(name) = openblas_text(library, name)
    return (;
        library=basename(library), core=text("openblas_get_corename"),
        config=text("openblas_get_config"), threads=BLAS.get_num_threads(),
        julia_threads=Threads.nthreads(),
    )
end

"What OpenBLAS says of itself. Its names end in 64_ in Julia's own build, and in nothing in others."
function openblas_text(library, name)
    handle = Libdl.dlopen(library)
    for symbol in (name * "64_", name)
        address = Libdl.dlsym(handle, symbol; throw_error=false)
        isnothing(address) || return strip(unsafe_string(ccall(address, Cstring, ())))
    end
    return ""
end
