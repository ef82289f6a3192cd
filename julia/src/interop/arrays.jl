# The arrays of a layer, which are shared.

const SHARED_TYPES = Union{Float32,Float64}
const MAX_AXES = 8

"""
An array of a layer.

- `name`: its path in the layer, such as `layers.1.weight`.
- `is_parameter`: whether it is trained; otherwise it is state, such as the running mean of a norm.
- `paths`: where it is in the layer, more than once if it is tied.
- `holders`: the mutable objects that hold it, with their fields or indices.
"""
struct LayerArray
    name::String
    array::Array
    is_parameter::Bool
    paths::Vector{Tuple}
    holders::Vector{Tuple{Any,Any}}
end

"""
    SharedLayer(layer)

A layer of Flux, or a model of such layers, its arrays, those of them that are trained, and the addresses of all.
Throws a `ConfigError` for arrays that another framework cannot share: only dense arrays of `Float32` or `Float64` with
up to $MAX_AXES axes can be.
"""
struct SharedLayer
    layer::Any
    arrays::Vector{LayerArray}
    parameters::Vector{LayerArray}
    addresses::Set{UInt}
end

function SharedLayer(layer)
    found = IdDict{Any,LayerArray}()
    order = Any[]
    visit_arrays(layer) do array, path, holder, is_trained
        name = array_name(layer, path)
        check_shareable(array, name)
        known = get(found, array, LayerArray(name, array, false, [], []))
        haskey(found, array) || push!(order, array)
        ismutable(first(holder)) && push!(known.holders, holder)
        push!(known.paths, path)
        found[array] = LayerArray(known.name, array, known.is_parameter || is_trained, known.paths, known.holders)
    end
    arrays = [found[array] for array in order]
    parameters = filter(each -> each.is_parameter, arrays)
    return SharedLayer(layer, arrays, parameters, Set{UInt}(address(each.array) for each in arrays))
end

address(array) = UInt(pointer(array))

Base.show(io::IO, shared::SharedLayer) = print(io, "SharedLayer(", shared.layer, ")")

"The name of the array at a path, a tuple of fields and indices. Blocks of MobileNets count from 0."
array_name(_, path) = join(path, '.')
array_name(part::Part, path) =
    join((key isa Integer ? key - 1 + part.first_block : key for key in path), '.')

"""
Call `f(array, path, (holder, key), is_trained)` for every array of floating-point numbers in a layer, as Functors and
Optimisers see it.
"""
visit_arrays(f, layer) = visit_node(f, layer, (), (nothing, nothing), true, Any[])

visit_node(f, array::AbstractArray{<:AbstractFloat}, path, holder, is_trained, _) = f(array, path, holder, is_trained)
visit_node(f, ::AbstractArray{<:Number}, path, holder, is_trained, _) = nothing
function visit_node(f, node, path, holder, is_trained, parents)
    (Functors.isleaf(node) || any(parent -> parent === node, parents)) && return nothing
    children, trained = Functors.children(node), values(Optimisers.trainable(node))
    for key in keys(children)
        child = children[key]
        child_is_trained = is_trained && any(value -> value === child, trained)
        visit_node(f, child, (path..., key), (node, key), child_is_trained, push!(copy(parents), node))
    end
end

function check_shareable(array, name)
    array isa Array && eltype(array) <: SHARED_TYPES && ndims(array) <= MAX_AXES || throw(ConfigError(
        "the arrays of a layer must be of type Array, with Float32 or Float64 and at most $MAX_AXES axes, to be " *
        "shared: convert them. Received: $(typeof(array)) as $name",
    ))
end

"""
    restore_arrays!(shared)

Make the layer hold the shared arrays where it holds others now, with the values of those: a layer may replace an array,
such as running statistics, instead of changing its values.
"""
function restore_arrays!(shared::SharedLayer)
    for (; array, holders, name) in shared.arrays, (holder, key) in holders
        current = held(holder, key)
        current === array && continue
        size(current) == size(array) || throw(ConfigError(
            "$name of a shared layer must keep its size $(size(array)). Received: $(size(current))"
        ))
        copyto!(array, current)
        hold!(holder, key, array)
    end
end

is_indexed(holder) = holder isa Union{AbstractArray,AbstractDict}
held(holder, key) = is_indexed(holder) ? holder[key] : getfield(holder, key)
hold!(holder, key, array) = is_indexed(holder) ? (holder[key] = array) : setfield!(holder, key, array)

"A copy of a shared layer, which shares nothing with it."
copied(shared::SharedLayer) = SharedLayer(deepcopy(shared.layer))

"A copy of a shared layer with arrays of another type."
converted(::Type{T}, shared::SharedLayer) where {T} = SharedLayer(convert_weights(T, deepcopy(shared.layer)))
