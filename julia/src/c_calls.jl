# Calls from other languages, by the address of one C function. Any thread may call it: a thread that Julia does not
# know is adopted, and outside the call no thread holds up the garbage collector.
#
# PythonCall wraps every argument and result in a Python object, must hold Python's lock during the call, and runs
# Python code to convert arguments. Here arguments are numbers, texts and tensors at addresses; results stay in Julia
# until they are dropped.

"A tensor at an address: its sizes first axis first in Julia's order, its type by its place in `C_TYPES` from 0."
struct CTensor
    name::Cstring
    data::Ptr{Cvoid}
    type::Int64
    axes::Int64
    sizes::NTuple{8,Int64}
end

const C_TYPES = (Float32, Float64, Int64, UInt8)

"""
One call: arguments first, then what the call writes. `objects` are handles (0: none), `result` is one, to be dropped by
`drop`. `outputs` and `message` are valid until it is.
"""
struct CCall
    operation::Int64
    objects::NTuple{4,Int64}
    number::Float64
    flag::Int64
    text::Cstring
    input_count::Int64
    inputs::Ptr{CTensor}
    # results
    result::Int64
    value::Float64
    output_count::Int64
    outputs::Ptr{CTensor}
    message::Cstring
end

"What a call returns: an object for later calls, tensors and a number. Keeps alive what `CCall` points to."
mutable struct CResult
    const object::Any
    const arrays::Vector{Pair{String,Array}}
    const value::Float64
    const message::String
    tensors::Vector{CTensor}
end
CResult(; object=nothing, arrays=Pair{String,Array}[], value=0.0, message="") =
    CResult(object, arrays, value, message, [c_tensor(first(pair), last(pair)) for pair in arrays])

function c_tensor(name::String, array::Array)
    type = findfirst(==(eltype(array)), C_TYPES) - 1
    sizes = ntuple(axis -> size(array, axis), 8)
    return CTensor(Cstring(pointer(name)), pointer(array), type, ndims(array), sizes)
end

# Objects that other languages refer to by handles

const HANDLES = Any[]
const FREE_HANDLES = Int[]
const HANDLES_LOCK = Threads.SpinLock()

"A handle of `object`, which stays alive until the handle is dropped."
function new_handle(object)
    lock(HANDLES_LOCK)
    try
        if isempty(FREE_HANDLES)
            push!(HANDLES, object)
            return length(HANDLES)
        end
        handle = pop!(FREE_HANDLES)
        HANDLES[handle] = object
        return handle
    finally
        unlock(HANDLES_LOCK)
    end
end

"The object of a handle."
function object_of(handle)
    lock(HANDLES_LOCK)
    try
        return (HANDLES[handle]::CResult).object
    finally
        unlock(HANDLES_LOCK)
    end
end

"Bytes of dropped models, optimizers and workspaces after which Julia's heap is collected as a whole."
const COLLECT_BYTES = 64 * 2^20
const DROPPED_BYTES = Threads.Atomic{Int}(0)

"""
Drop handles. What lived long is only freed by a full collection, for which Julia sees no need while little is allocated:
it is forced after every `COLLECT_BYTES`.
"""
function drop_handles(handles)
    objects = map(object_of, handles)
    lock(HANDLES_LOCK)
    try
        HANDLES[handles] .= nothing
        append!(FREE_HANDLES, handles)
    finally
        unlock(HANDLES_LOCK)
    end
    bytes = sum(object_bytes, objects; init=0)
    if Threads.atomic_add!(DROPPED_BYTES, bytes) + bytes > COLLECT_BYTES
        DROPPED_BYTES[] = 0
        GC.gc()
    end
    return nothing
end

object_bytes(::Any) = 0
object_bytes(model::MobileNet) = sum(sizeof ∘ last, get_state(model))
object_bytes(call::FrozenCall) = object_bytes(call.frozen.model)
object_bytes(shared::Interop.SharedLayer) = sum(each -> sizeof(each.array), shared.arrays; init=0)
object_bytes(workspace::Workspace) = Kernels.memory_size(workspace)
object_bytes(optimizer::Training.Optimizer) = sum(slots -> sum(sizeof, slots; init=0), optimizer.slots; init=0)

# Operations: functions of the call, its objects and its inputs

"The array of an input; its memory is the caller's."
input_array((; data, type, axes, sizes)::CTensor) =
    axes == 0 ? typed_array(C_TYPES[type + 1], data, ()) : typed_array(C_TYPES[type + 1], data, sizes[1:axes])
typed_array(::Type{T}, data, sizes) where {T} = unsafe_wrap(Array, Ptr{T}(data), sizes)

"The inputs from the `first` on by their names, `nothing` if there are none."
function named_inputs(inputs, first)
    length(inputs) < first && return nothing
    return Dict{String,Array}(unsafe_string(input.name) => input_array(input) for input in inputs[first:end])
end

text_of(call) = unsafe_string(call.text)

function c_new_model(call, _, _)
    kernels, dtype, config = split(text_of(call), ' '; limit=3)
    type = C_TYPES[parse(Int, dtype) + 1]
    model = Models.undefined_model(from_json(MobileNetConfig, config), type, Symbol(kernels))
    return CResult(; object=model)
end

c_new_workspace(call, (model,), _) =
    CResult(; object=text_of(call) == "cpu" ? Workspace() : DeviceWorkspace(model, text_of(call)))

c_new_optimizer(call, (model,), _) =
    CResult(; object=setup_optimizer(from_json(TrainConfig, text_of(call)), model))

c_get_state(_, (model, optimizer), _) =
    CResult(; arrays=isnothing(optimizer) ? get_state(model) : get_state(model, optimizer))

function c_set_state(_, (model, optimizer), inputs)
    state = named_inputs(inputs, 1)
    isnothing(optimizer) ? set_state!(model, state) : set_state!(model, optimizer, state)
    return CResult()
end

"The last input is overwritten by the logits."
function c_predict(_, (model, workspace), inputs)
    copyto!(input_array(inputs[2]), predict(model, input_array(inputs[1]); workspace))
    return CResult()
end

"The message has the two addresses of a [`MobileNets.FrozenCall`](@ref), to be called without `c_call`."
function c_freeze(_, (model,), _)
    call = FrozenCall(freeze(model))
    return CResult(; object=call, message=join(addresses(call), ' '))
end

c_frozen_message(_, (call,), _) = CResult(; message=call.message)

c_freeze_on_device(_, (model, workspace), _) = CResult(; object=freeze(model, workspace))

function c_call_frozen(_, (frozen,), inputs)
    copyto!(input_array(inputs[2]), frozen(input_array(inputs[1])))
    return CResult()
end

c_activations(call, (model,), inputs) = CResult(;
    arrays=activations(model, input_array(inputs[1]); train=call.flag != 0, masks=named_inputs(inputs, 2))
)

function c_loss_and_grads(_, (model, workspace), inputs)
    options = workspace isa DeviceWorkspace ? (; workspace) : (;)
    x, labels = input_array(inputs[1]), input_array(inputs[2])
    value, arrays = loss_and_grads(model, x, labels; masks=named_inputs(inputs, 3), options...)
    return CResult(; arrays, value)
end

function c_step(call, (model, workspace, optimizer, processes), inputs)
    value, arrays = train_step!(
        model, optimizer, input_array(inputs[1]), input_array(inputs[2]), call.number;
        masks=named_inputs(inputs, 3), workspace, processes=something(processes, Processes()),
    )
    return CResult(; arrays, value)
end

c_any_rank(call, (processes,), _) = CResult(; value=any_rank(processes, call.flag != 0))

function c_drop(_, _, inputs)
    drop_handles(input_array(inputs[1]))
    return CResult()
end

function c_collect(call, _, _)
    GC.gc(call.flag != 0)
    return CResult()
end

include("c_layers.jl")

"The operations by their numbers, from 0. Python reads their names."
const C_OPERATIONS = (
    c_new_model, c_new_workspace, c_new_optimizer, c_get_state, c_set_state, c_predict, c_freeze, c_frozen_message,
    c_freeze_on_device, c_call_frozen,
    c_activations, c_loss_and_grads, c_step, c_any_rank, c_drop, c_collect,
    c_share_layer, c_copy_layer, c_convert_layer, c_restore_arrays, c_call_layer, c_pull_back, c_cut, c_part_activations,
)
const C_FUNCTIONS = Function[C_OPERATIONS...]

"Do what `call` says, and write its results. Not 0 means that an error was thrown: `message` is its text."
function c_call(pointer::Ptr{CCall})::Cint
    call = unsafe_load(pointer)
    status, result = try
        objects = map(handle -> handle == 0 ? nothing : object_of(handle), call.objects)
        inputs = CTensor[unsafe_load(call.inputs, k) for k in 1:call.input_count]
        Cint(0), C_FUNCTIONS[call.operation + 1](call, objects, inputs)::CResult
    catch error
        Cint(1), CResult(; message=error_text(error))
    end
    write_result(pointer, call, result)
    return status
end

function error_text(error)
    try
        return sprint(showerror, error)
    catch
        return string(typeof(error))
    end
end

function write_result(target, call, result)
    isempty = isnothing(result.object) && Base.isempty(result.arrays) && Base.isempty(result.message)
    unsafe_store!(target, CCall(
        call.operation, call.objects, call.number, call.flag, call.text, call.input_count, call.inputs,
        isempty ? 0 : new_handle(result), result.value, length(result.tensors), pointer(result.tensors),
        Cstring(pointer(result.message)),
    ))
end

"""
    MobileNets.c_call_address()

The address of the C function `int call(struct CCall *)`; see julia/src/c_calls.jl.
"""
c_call_address() = Int(@cfunction(c_call, Cint, (Ptr{CCall},)))

"The names of the operations, in the order of their numbers, with commas between."
c_operation_names() = C_OPERATION_NAMES
const C_OPERATION_NAMES = join([chopprefix(string(f), "c_") for f in Function[C_OPERATIONS...]], ",")

"A handle of an object that was not made by a call."
c_handle(object) = new_handle(CResult(; object))

"Run the tasks and the event loop of this thread, which is Julia's first, for ever."
function run_event_loop()
    while true
        try
            wait(Condition())
        catch # an interrupt, of which Python has been told
        end
    end
end

"""
    MobileNets.event_loop_address()

The address of a C function without arguments that does not return: [`run_event_loop`](@ref).
"""
event_loop_address() = Int(@cfunction(run_event_loop, Cvoid, ()))
