# Steps of a layer: what a record says of it. A layer with an activation function is two steps: the layer without it, and
# the function.

"One step of a layer: what a record says of it, and the function that computes it."
struct Step
    suffix::String
    kind::String
    params::Vector{Pair{String,Any}}
    settings::Vector{Pair{String,Any}}
    run::Any
end

Step(kind, layer; suffix="", params=Pair{String,Any}[], settings=Pair{String,Any}[]) =
    Step(suffix, kind, params, settings, layer)

"Activation function => its name in records. Extensions add those of their packages."
const ACTIVATIONS = Dict{Any,String}(tanh => "tanh")

"Other function => the kind of its step. Extensions add those of their packages."
const FUNCTIONS = Dict{Any,String}(identity => "identity", (+) => "add", (*) => "multiply")

"A copy of a layer with some fields replaced."
function copy_with(layer, values)
    type = Base.typename(typeof(layer)).wrapper
    return type((get(values, name, getfield(layer, name)) for name in fieldnames(typeof(layer)))...)
end

"The steps of a layer, in order."
steps(layer) = [Step("other", layer; settings=setting("function" => string(nameof(typeof(layer)))))]

function steps(f::Function)
    haskey(FUNCTIONS, f) && return [Step(FUNCTIONS[f], f)]
    haskey(ACTIVATIONS, f) && return [Step("activation", broadcasted(f); settings=setting("function" => ACTIVATIONS[f]))]
    return [Step("other", f; settings=setting("function" => string(f)))]
end

"An elementwise function, applied to a number in a layer's field and to an array in a `Chain`."
broadcasted(f) = x -> x isa AbstractArray ? f.(x) : f(x)

setting(pairs...) = Pair{String,Any}[pairs...]
arrays(pairs...) = Pair{String,Any}[name => Array(array) for (name, array) in pairs if array isa AbstractArray]

function with_activation(step, activation, layer)
    activation === identity && return [step]
    name = get(ACTIVATIONS, activation, string(activation))
    return [step, Step("activation", broadcasted(activation); suffix=".σ", settings=setting("function" => name))]
end

"The pixels before and after each spatial axis, from torch's first axis to its last."
function padding_pairs(pad, axes)
    pairs = length(pad) == axes ? [(p, p) for p in pad] : [(pad[2i - 1], pad[2i]) for i in 1:axes]
    return reverse(pairs)
end
