# Layers of Flux inside another framework: their modes and pullbacks.

function Flux.testmode!(layer::Union{Part,TorchModule}, mode=true)
    layer.active = mode isa Bool ? !mode : nothing
    return layer
end

Interop.set_mode!(layer, train) = Flux.testmode!(layer, !train)

function Interop.layer_pullback(layer, shared, inputs, wanted)
    context = Zygote.Context()
    output, pullback = zygote_pullback(context, layer, inputs, wanted)
    function back(seed)
        context.cache = nothing # in which Zygote adds up the gradients of mutable layers, over all calls
        results = collect(Any, pullback(seed))
        layer_gradient = wanted & OF_PARAMETERS == 0 ? nothing : popfirst!(results)
        of_parameters = map(shared.parameters) do (; array, paths)
            found = filter(!isnothing, Any[gradient_at(layer_gradient, path) for path in paths])
            return isempty(found) ? nothing : reduce(+, Any[like(gradient, array) for gradient in found])
        end
        return wanted & OF_INPUTS == 0 ? Any[nothing for _ in inputs] : results, of_parameters
    end
    return output, back
end

function zygote_pullback(context, layer, inputs, wanted)
    wanted == OF_INPUTS && return Zygote.pullback((arrays...) -> layer(arrays...), context, inputs...)
    wanted == OF_PARAMETERS && return Zygote.pullback(each -> each(inputs...), context, layer)
    return Zygote.pullback((each, arrays...) -> each(arrays...), context, layer, inputs...)
end
