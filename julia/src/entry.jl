# For callers that have addresses of numbers instead of Julia's arrays. A frozen model can be called by an address
# itself: through PythonCall, which makes an object of every argument, a call takes as long as a small net does.

"An `Array` of so many `sizes`, first axis first, over values of type `T` at an address; the caller keeps them."
array_at(::Type{T}, address, sizes) where {T} = unsafe_wrap(Array, Ptr{T}(address), sizes)

"A frozen model, and what its last call had to say if it failed. The caller keeps it as long as it calls."
mutable struct Entry{T}
    const frozen::Frozen{T}
    message::String
end
Entry(frozen::Frozen{T}) where {T} = Entry{T}(frozen, "")

function enter(entry::Entry{T}, images, scores, shape)::Cint where {T}
    (; config) = entry.frozen.model
    try
        count, height, width = unsafe_wrap(Array, shape, 3)
        x = unsafe_wrap(Array, Ptr{T}(images), (width, height, config.in_channels, count))
        copyto!(unsafe_wrap(Array, Ptr{T}(scores), (config.num_classes, count)), entry.frozen(x))
        return 0
    catch error
        entry.message = sprint(showerror, error)
        return 1
    end
end

"""
    MobileNets.addresses(entry)

Of a C function `int call(void *entry, const T *images, T *scores, ptrdiff_t shape[3])` and of its first argument.
`shape` counts images, rows and columns, N, H, W; `images` are (N, C, H, W) in C's order, and `scores` (N, classes) are
written. Not 0 means that nothing was, and why stands in `entry.message`.
"""
function addresses(entry::Entry)
    call = @cfunction(enter, Cint, (Any, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{Int}))
    return Int(call), Int(pointer_from_objref(entry))
end
