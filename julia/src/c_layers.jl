# Calls of Flux layers that another framework shares (interop/). What users define may be newer than this code: it is
# called by `invokelatest`.

"A shared layer with its arrays. The message has a letter for each of them: p for a parameter, b for a buffer."
layer_result(shared) = CResult(;
    object=shared,
    arrays=Pair{String,Array}[each.name => each.array for each in shared.arrays],
    message=join(each.is_parameter ? 'p' : 'b' for each in shared.arrays),
)

c_share_layer(_, (layer,), _) = layer_result(Base.invokelatest(Interop.SharedLayer, layer))
c_copy_layer(_, (shared,), _) = layer_result(Base.invokelatest(Interop.copied, shared))

"The text is the new type."
c_convert_layer(call, (shared,), _) =
    layer_result(Base.invokelatest(Interop.converted, text_of(call) == "Float64" ? Float64 : Float32, shared))

function c_restore_arrays(_, (shared,), _)
    Interop.restore_arrays!(shared)
    return CResult()
end

"""
The number says of what gradients will be wanted, the flag whether the layer trains. Inputs without a name are the
layer's, the others are masks; the text says whether there are any. The value is the handle of the pullback, or 0.
"""
function c_call_layer(call, (shared,), inputs)
    arrays = Tuple(input_array(input) for input in inputs if Ptr{Cvoid}(input.name) == C_NULL)
    masks = isempty(text_of(call)) ? nothing : something(named_inputs(inputs, length(arrays) + 1), Dict{String,Array}())
    train, wanted = call.flag != 0, Int(call.number)
    outputs, pullback = Base.invokelatest(Interop.call_layer, shared, arrays; train, wanted, masks)
    named = Pair{String,Array}[string(k) => output for (k, output) in enumerate(outputs)]
    value = isnothing(pullback) ? 0 : new_handle(CResult(; object=pullback))
    return CResult(; arrays=named, value=float(value))
end

"""
The results have no names: the gradients of the inputs, then of the parameters. The message has a letter for each of
them: g if there is a gradient, otherwise -.
"""
function c_pull_back(_, (pullback,), inputs)
    of_inputs, of_parameters = Base.invokelatest(pullback, [input_array(input) for input in inputs])
    gradients = Any[of_inputs; of_parameters]
    return CResult(;
        arrays=Pair{String,Array}["" => gradient for gradient in gradients if !isnothing(gradient)],
        message=join(isnothing(gradient) ? '-' : 'g' for gradient in gradients),
    )
end

"The front or the back of a model, as the text says; the number is that of the blocks in the front."
function c_cut(call, (model,), _)
    front, back = cut(model, Int(call.number); channels_last=call.flag != 0)
    return layer_result(Interop.SharedLayer(text_of(call) == "front" ? front : back))
end

"Every activation of a part in the layout of images, and its output as `output`."
function c_part_activations(call, (shared,), inputs)
    recorded = Pair{String,Array}[]
    output = Models.part_activations(
        shared.layer, input_array(inputs[1]); train=call.flag != 0, masks=named_inputs(inputs, 2),
        hook=(name, array) -> push!(recorded, name => array),
    )
    return CResult(; arrays=push!(recorded, "output" => output))
end
