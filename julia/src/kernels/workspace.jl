# Where the kernels get the arrays they write into. A room is used by one task at a time.

"Each array a new one, which stays whoever holds it."
struct Fresh end

array(::Fresh, ::Type{T}, dims::Vararg{Int,N}) where {T,N} = Array{T,N}(undef, dims)
release!(::Fresh, _) = nothing
gradient_like(::Fresh, parameter) = similar(parameter)

"""
    Workspace()

Arrays that [`train_step!`](@ref) and [`predict`](@ref) take again in the next call instead of new ones, if its
images have the same size; those for another size are let go. The gradients that `train_step!` returns lie in
them: they are valid until the next step with the same workspace. For one task at a time.
"""
struct Workspace
    free::Dict{Tuple{DataType,Dims},Vector{Array}}
    lent::Base.IdSet{Array}
    gradients::IdDict{Array,Array}
    sums::IdDict{Array,Array}
    images::Base.RefValue{Dims}
end
Workspace() = Workspace(
    Dict(), Base.IdSet{Array}(), IdDict{Array,Array}(), IdDict{Array,Array}(), Ref{Dims}(())
)
Base.show(io::IO, workspace::Workspace) =
    print(io, "Workspace(", Base.format_bytes(bytes(workspace)), ")")

function bytes(workspace::Workspace)
    kept = Iterators.flatten((
        workspace.lent, values(workspace.gradients), values(workspace.sums),
        Iterators.flatten(values(workspace.free)),
    ))
    return sum(sizeof, kept; init=0)
end

"An array of undefined values that nobody else has, until it is released."
function array(room::Workspace, ::Type{T}, dims::Vararg{Int,N}) where {T,N}
    spare = get(room.free, (T, dims), nothing)
    found = isnothing(spare) || isempty(spare) ? Array{T,N}(undef, dims) : pop!(spare)::Array{T,N}
    push!(room.lent, found)
    return found
end

"Give back an array that nothing reads any more. One that is not the room's is left alone."
function release!(room::Workspace, unused::Array)
    unused in room.lent || return nothing
    delete!(room.lent, unused)
    push!(get!(() -> Array[], room.free, (eltype(unused), size(unused))), unused)
    return nothing
end

"Take back all arrays but the gradients and their sums, and keep them if the images are of the same size."
function reset!(room::Workspace, images::Dims)
    foreach(unused -> release!(room, unused), collect(room.lent))
    images == room.images[] || empty!(room.free)
    room.images[] = images
    return nothing
end

"""
    Pool()

Memory for inference, where few arrays live at once: what one of them leaves serves the next of any shape that
it is large enough for. They must not outlive the pool. For one task at a time.
"""
struct Pool
    free::Vector{Vector{UInt8}} # by length
    lent::IdDict{Array,Vector{UInt8}}
end
Pool() = Pool([], IdDict())

function array(pool::Pool, ::Type{T}, dims::Vararg{Int,N}) where {T,N}
    count = prod(dims) * sizeof(T)
    place = first_of(pool.free, count)
    is_there = place <= length(pool.free)
    is_there || isempty(pool.free) || pop!(pool.free) # else images of ever more sizes would fill the memory
    memory = is_there ? popat!(pool.free, place) : Vector{UInt8}(undef, count)
    lent = unsafe_wrap(Array, Ptr{T}(pointer(memory)), dims)
    pool.lent[lent] = memory
    return lent
end

"Position of the first that holds `count` bytes; one past the last if none does."
first_of(free, count) = something(findfirst(memory -> length(memory) >= count, free), length(free) + 1)

function release!(pool::Pool, unused::Array)
    memory = pop!(pool.lent, unused, nothing)
    isnothing(memory) || insert!(pool.free, first_of(pool.free, length(memory)), memory)
    return nothing
end

reset!(pool::Pool) = foreach(unused -> release!(pool, unused), collect(keys(pool.lent)))

"The array for the gradient of a parameter, always the same."
gradient_like(room::Workspace, parameter::A) where {A<:Array} =
    get!(() -> similar(parameter), room.gradients, parameter)::A

"The array for the sum of the gradients of a parameter over the parts of a batch, always the same."
sum_like(room, parameter::A) where {A<:Array} =
    get!(() -> similar(parameter), room.sums, parameter)::A

@non_differentiable release!(::Any, ::Any)
