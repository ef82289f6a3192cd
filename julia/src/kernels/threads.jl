"Multiply-adds that are worth a thread: some microseconds."
const LEAST_WORK = 2^18

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
