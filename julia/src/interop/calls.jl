# What a shared layer computes, and its gradients.

"Of what a call wants gradients: a sum of these."
const OF_INPUTS, OF_PARAMETERS = 1, 2

"What the pullback of a call needs. `back` is that of `layer_pullback`."
struct LayerPullback
    shared::SharedLayer
    back::Any
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
    set_mode!(layer, train)
    layer isa Part && (layer.masks = masks)
    output, back = wanted == 0 ? (layer(inputs...), nothing) : layer_pullback(layer, shared, inputs, wanted)
    restore_arrays!(shared)
    taken = Set{UInt}(address(input) for input in inputs)
    values = output isa Tuple ? output : (output,)
    outputs = Array[unshared(shared, taken, dense(value)) for value in values]
    wanted == 0 && return outputs, nothing
    return outputs, LayerPullback(shared, back, inputs, outputs, output isa Number, output isa Tuple)
end

"Put a layer into training mode, or out of it."
set_mode!(part::Part, train) = part.active = train

"""
    layer_pullback(layer, shared, inputs, wanted) -> output, back

What a layer returns, and a function that maps the gradient of that to vectors of those of the inputs and of the
parameters, `nothing` where there is none.
"""
function layer_pullback end

# Without Zygote, which takes a millisecond to put the gradients of a part into its structure.
layer_pullback(part::Part, shared, inputs, _) =
    of_arrays(shared, Models.part_parameters(part), Models.part_pullback(part, only(inputs); train=part.active)...)

"What `layer_pullback` returns, of a pullback to the gradients of some parameters, in their order, and of one input."
function of_arrays(shared, parameters, output, pullback)
    places = IdDict{Array,Int}(array => place for (place, array) in enumerate(parameters))
    order = [places[array] for (; array) in shared.parameters]
    function back(seed)
        gradients, of_input = pullback(seed)
        return Any[of_input], gradients[order]
    end
    return output, back
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

"An array, or a copy where its memory is the layer's or is taken; its address is taken then."
function unshared(shared, taken, array)
    isempty(array) && return array
    (address(array) in taken || address(array) in shared.addresses) && (array = copy(array))
    push!(taken, address(array))
    return array
end

"""
    pullback(gradients) -> input_gradients, parameter_gradients

The gradients of the inputs and of the parameters, `nothing` where there is none, for those of the
outputs. They share no memory with each other or with anything else.
"""
function (pullback::LayerPullback)(gradients)
    (; shared, inputs, outputs) = pullback
    taken = Set{UInt}(address(array) for array in (inputs..., outputs..., gradients...))
    seed = pullback.returns_tuple ? Tuple(gradients) : pullback.returns_number ? only(only(gradients)) : only(gradients)
    of_inputs, of_parameters = pullback.back(seed)
    input_gradients = map(of_inputs, inputs) do gradient, input
        gradient === nothing || !(input isa Array{<:SHARED_TYPES}) ? nothing :
            unshared(shared, taken, like(gradient, input))
    end
    parameter_gradients = map(of_parameters, shared.parameters) do gradient, (; array)
        gradient === nothing ? nothing : unshared(shared, taken, like(gradient, array))
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
