# What a shared layer computes, and its gradients.

"Of what a call wants gradients: a sum of these."
const OF_INPUTS, OF_PARAMETERS = 1, 2

"What the pullback of a call needs."
struct LayerPullback
    shared::SharedLayer
    context::Zygote.Context
    back::Any
    wanted::Int
    inputs::Tuple
    outputs::Vector{Array}
    returns_number::Bool
    returns_tuple::Bool
end

"""
    call_layer(shared, inputs; train, wanted=0, masks=nothing) -> outputs, pullback

Call a layer with a tuple of arrays. `outputs` are the arrays that it returns, one, or several of a tuple; a number is
an array without axes. They share no memory with the inputs or with the layer. `wanted` says of what the
`LayerPullback` gives gradients; it is `nothing` where that is 0. `masks` are those of a MobileNet's part.
"""
function call_layer(shared::SharedLayer, inputs::Tuple; train, wanted=0, masks=nothing)
    (; layer) = shared
    restore_arrays!(shared)
    Flux.testmode!(layer, !train)
    layer isa Part && (layer.masks = masks)
    context = Zygote.Context()
    output, back = with_pullback(context, layer, inputs, wanted)
    restore_arrays!(shared)
    taken = addresses(shared)
    foreach(input -> push!(taken, address(input)), inputs)
    values = output isa Tuple ? output : (output,)
    outputs = Array[unshared(taken, dense(value)) for value in values]
    wanted == 0 && return outputs, nothing
    returns = (output isa Number, output isa Tuple)
    return outputs, LayerPullback(shared, context, back, wanted, inputs, outputs, returns...)
end

function with_pullback(context, layer, inputs, wanted)
    wanted == 0 && return layer(inputs...), nothing
    wanted == OF_INPUTS && return Zygote.pullback((arrays...) -> layer(arrays...), context, inputs...)
    wanted == OF_PARAMETERS && return Zygote.pullback(each -> each(inputs...), context, layer)
    return Zygote.pullback((each, arrays...) -> each(arrays...), context, layer, inputs...)
end

"An output as an array of a type that other frameworks have."
dense(value::Number) = dense(fill(value))
dense(value::AbstractArray) = dense(Array(value))
dense(value::Array{<:Union{Float32,Float64,Int64,UInt8}}) = value
dense(value) = throw(ConfigError(
    "a shared layer must return an array or a number of Float32, Float64, Int64 or UInt8, or a tuple of these. " *
    "Received: $(typeof(value))",
))
dense(value::Array) = throw(ConfigError(
    "a shared layer must return arrays of Float32, Float64, Int64 or UInt8. Received: $(typeof(value))"
))

address(array) = UInt(pointer(array))
addresses(shared::SharedLayer) = Set{UInt}(address(each.array) for each in shared.arrays)

"An array, or a copy where its memory is taken; its address is taken then."
function unshared(taken, array)
    isempty(array) && return array
    address(array) in taken && (array = copy(array))
    push!(taken, address(array))
    return array
end

"""
    pullback(gradients) -> input_gradients, parameter_gradients

The gradients of the inputs, `nothing` where there is none, and name => gradient of the parameters, for those of the
outputs. They share no memory with each other or with anything else.
"""
function (pullback::LayerPullback)(gradients)
    (; shared, wanted, inputs, outputs) = pullback
    taken = addresses(shared)
    foreach(array -> push!(taken, address(array)), (inputs..., outputs..., gradients...))
    seed = pullback.returns_tuple ? Tuple(gradients) : pullback.returns_number ? only(only(gradients)) : only(gradients)
    pullback.context.cache = nothing # in which Zygote adds up the gradients of mutable layers, over all calls
    results = collect(Any, pullback.back(seed))
    layer_gradient = wanted & OF_PARAMETERS == 0 ? nothing : popfirst!(results)
    input_gradients = Any[nothing for _ in inputs]
    if wanted & OF_INPUTS != 0
        input_gradients = map(results, inputs) do gradient, input
            gradient === nothing || !(input isa Array{<:SHARED_TYPES}) ? nothing :
                unshared(taken, like(gradient, input))
        end
    end
    parameter_gradients = Pair{String,Array}[]
    for (; name, array, is_parameter, paths) in shared.arrays
        is_parameter || continue
        found = filter(!isnothing, Any[gradient_at(layer_gradient, path) for path in paths])
        isempty(found) && continue
        total = reduce(+, Any[like(gradient, array) for gradient in found])
        push!(parameter_gradients, name => unshared(taken, total))
    end
    return input_gradients, parameter_gradients
end

"A gradient as a dense array of the type and size of another."
like(gradient::Array{T,N}, ::Array{T,N}) where {T,N} = gradient
like(gradient, array::Array{T,N}) where {T,N} =
    convert(Array{T,N}, reshape(gradient isa Number ? fill(gradient) : collect(gradient), size(array)))

"The part of a layer's gradient that belongs to the array at a path, or nothing."
function gradient_at(gradient, path)
    for key in path
        gradient isa Base.RefValue && (gradient = gradient[]) # of a mutable layer
        gradient === nothing && return nothing
        if key isa Symbol
            hasproperty(gradient, key) || return nothing
            gradient = getproperty(gradient, key)
        else
            gradient = gradient[key]
        end
    end
    return gradient
end
