"Multiply-adds that justify another thread: they take some microseconds."
const MIN_WORK_PER_THREAD = 2^18

"The least number of items for which another thread pays off, each item being `work` multiply-adds."
min_items_per_thread(work) = cld(MIN_WORK_PER_THREAD, work)

"The number of chunks into which [`parallel`](@ref) divides `count` items, each of at least `min_size` items."
function chunk_count(count::Int, min_size::Int=1)
    precompiling = ccall(:jl_generating_output, Cint, ()) != 0 # on one thread, also for several
    return clamp(count ÷ min_size, 1, precompiling ? 2 : Threads.nthreads())
end

"Call `f()` with BLAS on one thread if Julia has several, so that their threads do not compete for the cores."
function with_one_blas_thread(f)
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

The BLAS that multiplies matrices, as a `NamedTuple`: `library`, the `core` it selected its kernels for and its
`config` (both strings as OpenBLAS reports them, empty for other libraries), its `threads`, and `julia_threads`.
While a model runs on several Julia threads, each of them calls BLAS with one thread; a single Julia thread
leaves the number of BLAS threads as it is.

```jldoctest
julia> MobileNets.blas_report().julia_threads == Threads.nthreads()
true
```
"""
function blas_report()
    library = first(BLAS.lbt_get_config().loaded_libs).libname
    return (;
        library=basename(library),
        core=openblas_string(library, "openblas_get_corename"),
        config=openblas_string(library, "openblas_get_config"),
        threads=BLAS.get_num_threads(),
        julia_threads=Threads.nthreads(),
    )
end

"The result of an OpenBLAS function; its names end in 64_ in Julia's build. Empty for other libraries."
function openblas_string(library, name)
    handle = Libdl.dlopen(library)
    for symbol in (name * "64_", name)
        address = Libdl.dlsym(handle, symbol; throw_error=false)
        isnothing(address) || return strip(unsafe_string(ccall(address, Cstring, ())))
    end
    return ""
end
