# Workspaces: where the kernels take the arrays they write into. A workspace is used by one task at a time.

"A workspace that allocates every array; the arrays belong to the caller."
struct AllocatingWorkspace end

"An array of undefined values, in no other use until it is released."
allocate(::AllocatingWorkspace, ::Type{T}, dims::Vararg{Int,N}) where {T,N} = Array{T,N}(undef, dims)

"Return an array that is not read any more to its workspace. Arrays of other origin are ignored."
release!(::AllocatingWorkspace, _) = nothing

"The array for the gradient of a parameter."
gradient_array(::AllocatingWorkspace, parameter) = similar(parameter)

"""
    Workspace()

Reusable arrays for [`predict`](@ref), [`loss_and_grads`](@ref), [`train_step!`](@ref) and [`fit!`](@ref). A call
with the same workspace and images of the same size takes the arrays of the previous call instead of new ones;
for images of another size they are dropped. The gradients returned by `loss_and_grads` and `train_step!` are
arrays of the workspace, valid until the next call with it. For one task at a time.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> workspace = Workspace();

julia> x = ones(Float32, 32, 32, 3, 2);

julia> predict(model, x; workspace) == predict(model, x)
true
```
"""
struct Workspace
    free::Dict{Tuple{DataType,Dims},Vector{Array}}
    in_use::Base.IdSet{Array}
    gradients::IdDict{Array,Array}
    sums::IdDict{Array,Array}
    image_size::Base.RefValue{Dims}
end
Workspace() = Workspace(
    Dict(), Base.IdSet{Array}(), IdDict{Array,Array}(), IdDict{Array,Array}(), Ref{Dims}(())
)
Base.show(io::IO, workspace::Workspace) =
    print(io, "Workspace(", Base.format_bytes(memory_size(workspace)), ")")

"Bytes of all arrays of a workspace."
function memory_size(workspace::Workspace)
    arrays = Iterators.flatten((
        workspace.in_use, values(workspace.gradients), values(workspace.sums),
        Iterators.flatten(values(workspace.free)),
    ))
    return sum(sizeof, arrays; init=0)
end

function allocate(workspace::Workspace, ::Type{T}, dims::Vararg{Int,N}) where {T,N}
    free = get(workspace.free, (T, dims), nothing)
    array = isnothing(free) || isempty(free) ? Array{T,N}(undef, dims) : pop!(free)::Array{T,N}
    push!(workspace.in_use, array)
    return array
end

function release!(workspace::Workspace, array::Array)
    array in workspace.in_use || return nothing
    delete!(workspace.in_use, array)
    push!(get!(() -> Array[], workspace.free, (eltype(array), size(array))), array)
    return nothing
end

"Release all arrays but the gradients and their sums; drop them if the images have another size."
function reset!(workspace::Workspace, image_size::Dims)
    foreach(array -> release!(workspace, array), collect(workspace.in_use))
    image_size == workspace.image_size[] || empty!(workspace.free)
    workspace.image_size[] = image_size
    return nothing
end

"The array for the gradient of a parameter, the same one in every call."
gradient_array(workspace::Workspace, parameter::A) where {A<:Array} =
    get!(() -> similar(parameter), workspace.gradients, parameter)::A

"The array for the sum of a parameter's gradients over micro-batches, the same one in every call."
sum_array(workspace, parameter::A) where {A<:Array} =
    get!(() -> similar(parameter), workspace.sums, parameter)::A

"""
    PooledWorkspace()

A memory pool for inference, where few arrays are in use at once: a released array's memory serves the next array
of any shape that fits in it. The arrays must not outlive the workspace. For one task at a time.
"""
struct PooledWorkspace
    free::Vector{Vector{UInt8}} # by length
    in_use::IdDict{Array,Any} # values of a type that needs no `convert`, to which other packages add methods
end
PooledWorkspace() = PooledWorkspace([], IdDict{Array,Any}())

function allocate(workspace::PooledWorkspace, ::Type{T}, dims::Vararg{Int,N}) where {T,N}
    bytes = prod(dims) * sizeof(T)
    position = first_fit(workspace.free, bytes)
    fits = position <= length(workspace.free)
    fits || isempty(workspace.free) || pop!(workspace.free) # or images of growing sizes would fill the memory
    memory = fits ? popat!(workspace.free, position) : Vector{UInt8}(undef, bytes)
    array = unsafe_wrap(Array, Ptr{T}(pointer(memory)), dims)
    workspace.in_use[array] = memory
    return array
end

"Position of the first free memory of at least `bytes` bytes; one past the last if there is none."
first_fit(free, bytes) = something(findfirst(memory -> length(memory) >= bytes, free), length(free) + 1)

function release!(workspace::PooledWorkspace, array::Array)
    memory = pop!(workspace.in_use, array, nothing)::Union{Nothing,Vector{UInt8}}
    isnothing(memory) || insert!(workspace.free, first_fit(workspace.free, length(memory)), memory)
    return nothing
end

reset!(workspace::PooledWorkspace) = foreach(array -> release!(workspace, array), collect(keys(workspace.in_use)))

"Workspaces that threads take and return."
struct WorkspacePool
    free::Vector{PooledWorkspace}
    lock::Threads.SpinLock
end
WorkspacePool() = WorkspacePool([], Threads.SpinLock())

"Call `f(workspace)` with a workspace that no other thread uses meanwhile, and release its arrays."
function with_workspace(f, pool::WorkspacePool)
    workspace = @lock pool.lock isempty(pool.free) ? PooledWorkspace() : pop!(pool.free)
    try
        return f(workspace)
    finally
        reset!(workspace)
        @lock pool.lock push!(pool.free, workspace)
    end
end

@non_differentiable release!(::Any, ::Any)
