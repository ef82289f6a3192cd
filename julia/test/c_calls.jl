# Calls by address, as other languages make them (src/c_calls.jl).

using MobileNets: CCall, CTensor, C_TYPES, HANDLES, c_call_address, c_handle, c_operation_names, c_tensor, get_state,
    loss_and_grads, object_of, predict, to_json

const FUNCTION = Ptr{Cvoid}(c_call_address())
const NAMES = split(c_operation_names(), ',')

"Pass the address of a `CCall` to `f`; what `f` returns, and the `CCall` with its results."
function with_call(f, name, objects=(), arrays=Pair{String,Array}[]; text="")
    tensors = [c_tensor(first(pair), last(pair)) for pair in arrays]
    handles = ntuple(k -> k <= length(objects) ? objects[k] : 0, 4)
    GC.@preserve arrays tensors text begin
        argument = Ref(CCall(
            findfirst(==(name), NAMES) - 1, handles, 0.0, 0, Cstring(pointer(text)), length(arrays),
            pointer(tensors), 0, 0.0, 0, Ptr{CTensor}(), Cstring(C_NULL),
        ))
        returned = GC.@preserve argument f(Base.unsafe_convert(Ptr{CCall}, argument))
        return returned, argument[]
    end
end

call(arguments...; options...) =
    with_call(pointer -> ccall(FUNCTION, Cint, (Ptr{CCall},), pointer), arguments...; options...)
handle_of(arguments...; options...) = last(call(arguments...; options...)).result
drop(handles...) = call("drop", (), ["" => collect(Int, handles)])

"The arrays of a result by their names."
function outputs(results)
    tensors = [unsafe_load(results.outputs, k) for k in 1:results.output_count]
    array(each) = unsafe_wrap(Array, Ptr{C_TYPES[each.type + 1]}(each.data), each.sizes[1:each.axes])
    return Dict(unsafe_string(each.name) => copy(array(each)) for each in tensors)
end

const REFERENCE = MobileNet(TINY; dtype=Float64)
const X, LABELS = example(Float64; size=(32, 32))

"Handles of a model with the state of `REFERENCE` and of a workspace."
function model_and_workspace()
    model = handle_of("new_model"; text="fast 1 " * to_json(TINY))
    state = Pair{String,Array}[name => array for (name, array) in get_state(REFERENCE)]
    @test first(call("set_state", (model,), state)) == 0
    return model, handle_of("new_workspace", (model,); text="cpu")
end

@testset "operations compute what the functions of their names do" begin
    objects, logits = model_and_workspace(), zeros(TINY.num_classes, length(LABELS))
    @test first(call("predict", objects, ["" => X, "" => logits])) == 0
    @test logits == predict(REFERENCE, X)
    status, results = call("loss_and_grads", objects, ["" => X, "" => LABELS])
    value, grads = loss_and_grads(REFERENCE, X, LABELS)
    @test (status, results.value) == (0, value)
    @test outputs(results) == Dict(grads)
    drop(results.result, objects...)
end

@testset "an error is a status and its text, and the objects stay usable" begin
    objects, logits = model_and_workspace(), zeros(TINY.num_classes, length(LABELS))
    status, results = call("predict", objects, ["" => X[:, :, 1:2, :], "" => logits])
    @test status == 1
    @test occursin("Received", unsafe_string(results.message))
    @test first(call("predict", objects, ["" => X, "" => logits])) == 0
    @test first(call("get_state", (length(HANDLES) + 1,))) == 1
    drop(results.result, objects...)
end

@testset "a dropped handle keeps no object, and is given again" begin
    handle = c_handle(TINY)
    @test object_of(handle) === TINY
    @test first(drop(handle)) == 0
    @test HANDLES[handle] === nothing
    @test first(call("get_state", (handle,))) == 1
    count, again = length(HANDLES), c_handle(TINY_V2)
    @test object_of(again) === TINY_V2
    @test length(HANDLES) == count
    drop(again)
end

@testset "a thread that Julia has not started may call" begin
    objects, logits = model_and_workspace(), zeros(TINY.num_classes, length(LABELS))
    joined, _ = with_call("predict", objects, ["" => X, "" => logits]) do pointer
        thread = Ref{UInt}(0)
        created = ccall(
            :pthread_create, Cint, (Ref{UInt}, Ptr{Cvoid}, Ptr{Cvoid}, Ptr{CCall}), thread, C_NULL, FUNCTION, pointer,
        )
        @test created == 0
        @threadcall(:pthread_join, Cint, (UInt, Ptr{Cvoid}), thread[], C_NULL)
    end
    @test joined == 0
    @test logits == predict(REFERENCE, X)
    drop(objects...)
end
