# For callers that have addresses of numbers instead of Julia arrays. A frozen model can be called by the address of a
# C function: through PythonCall, which wraps every argument, a call takes as long as a small model does.

"""
    MobileNets.array_at(T, address, sizes)

An `Array{T}` of the given sizes, first axis first, over the values at an address, whose memory the caller owns.
"""
array_at(::Type{T}, address, sizes) where {T} = unsafe_wrap(Array, Ptr{T}(address), sizes)

"""
    MobileNets.FrozenCall(frozen)

A frozen model that can be called through [`MobileNets.addresses`](@ref). `message` is the error message of the last
call that failed. The caller must keep it alive while it is called.
"""
mutable struct FrozenCall{T}
    const frozen::FrozenModel{T}
    message::String
end
FrozenCall(frozen::FrozenModel{T}) where {T} = FrozenCall{T}(frozen, "")

function call_frozen(call::FrozenCall{T}, images, scores, shape)::Cint where {T}
    (; config) = call.frozen.model
    try
        count, height, width = unsafe_wrap(Array, shape, 3)
        x = unsafe_wrap(Array, Ptr{T}(images), (width, height, config.in_channels, count))
        copyto!(unsafe_wrap(Array, Ptr{T}(scores), (config.num_classes, count)), call.frozen(x))
        return 0
    catch error
        call.message = sprint(showerror, error)
        return 1
    end
end

"""
    MobileNets.addresses(call::FrozenCall) -> code, object

The address of a C function `int code(void *object, const T *images, T *scores, ptrdiff_t shape[3])` and that of its
first argument. `shape` is the number of images, rows and columns, N, H, W. `images` are (N, C, H, W) in C order;
`scores`, (N, classes), are written. A result other than 0 means that nothing was written and that `call.message` is
the reason.
"""
function addresses(call::FrozenCall)
    code = @cfunction(call_frozen, Cint, (Any, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Int}))
    return Int(code), Int(pointer_from_objref(call))
end
