# A module of torch as a Flux layer, on one memory.

using ChainRulesCore: ChainRulesCore, NoTangent, Tangent, ZeroTangent, unthunk
using MobileNets.Configs: ConfigError
using MobileNets.Interop: TorchModule
using PythonCall: pybuiltins, pyconvert, pyimport, pyis, pyisinstance, pytype

"""
Call `f()` while this thread holds Python's lock. While it waits for the lock, Julia's garbage collector can run: the
thread that holds the lock may be waiting for it.
"""
function with_python(f)
    PythonCall.C.PyGILState_Check() == 1 && return f()
    ensure = PythonCall.C.POINTERS.PyGILState_Ensure
    gc_state = ccall(:jl_gc_safe_enter, Int8, ())
    lock_state = ccall(ensure, Cint, ())
    ccall(:jl_gc_safe_leave, Cvoid, (Int8,), gc_state)
    try
        return f()
    finally
        PythonCall.C.PyGILState_Release(lock_state)
    end
end

MobileNets.TorchModule(object::Py) = with_python() do
    torch = pyimport("torch")
    pyisinstance(object, torch.nn.Module) ||
        throw(ConfigError("TorchModule requires a torch.nn.Module. Received: $(pytype(object))"))
    named = [pyconvert(String, name) => parameter for (name, parameter) in object.named_parameters()]
    for (name, parameter) in named
        pyconvert(String, parameter.device.type) == "cpu" ||
            throw(ConfigError("the parameters of a TorchModule must be on the CPU. Received: $name on $(parameter.device)"))
    end
    names = Tuple(Symbol(first(pair)) for pair in named)
    arrays = Tuple(array_of(last(pair)) for pair in named)
    TorchModule{Py,NamedTuple{names,typeof(arrays)}}(object, NamedTuple{names}(arrays), nothing)
end

"Bytes of torch's memory that Julia has wrapped since it last collected garbage, of which it knows nothing."
const WRAPPED_BYTES = Threads.Atomic{Int}(0)
const COLLECT_BYTES = 256 * 2^20

"Python objects whose memory arrays have. What only the finalizer of an array held would be finalized with it."
const KEPT_ALIVE = Dict{Int,Py}()
const KEPT_COUNT = Ref(0)
const KEPT_LOCK = Threads.SpinLock()

"Keep a Python object alive as long as an array."
function keep_alive!(array, object)
    number = lock(KEPT_LOCK) do
        number = KEPT_COUNT[] += 1
        KEPT_ALIVE[number] = object
        number
    end
    finalizer(_ -> lock(() -> delete!(KEPT_ALIVE, number), KEPT_LOCK), array)
end

"The memory of a tensor as an array with its axes reversed, which keeps the tensor alive. A contiguous copy if need be."
function array_of(tensor)
    numpy = tensor.detach().contiguous().numpy()
    T = TYPES[pyconvert(String, numpy.dtype.name)]
    sizes = Tuple(reverse(pyconvert(Vector{Int}, pybuiltins.list(numpy.shape))))
    array = unsafe_wrap(Array, Ptr{T}(pyconvert(UInt, numpy.ctypes.data)), sizes)
    keep_alive!(array, numpy)
    if Threads.atomic_add!(WRAPPED_BYTES, sizeof(array)) + sizeof(array) > COLLECT_BYTES
        WRAPPED_BYTES[] = 0
        GC.gc(false)
    end
    return array
end

const TYPES = Dict("float32" => Float32, "float64" => Float64, "int64" => Int64, "uint8" => UInt8, "bool" => Bool)

"An array as a tensor on its memory, with its axes reversed, which keeps the array alive."
tensor_of(array::Array) = pyimport("torch").from_numpy(pyimport("numpy").asarray(Py(array)).T)
tensor_of(array::AbstractArray) = tensor_of(Array(array))

function check_memory((; object, parameters)::TorchModule)
    for (name, parameter) in object.named_parameters()
        array = parameters[Symbol(pyconvert(String, name))]
        isempty(array) || pyconvert(UInt, parameter.data_ptr()) == UInt(pointer(array)) || throw(ConfigError(
            "the parameters of a TorchModule must stay torch's memory: convert the torch module and make a new " *
            "TorchModule of it. Received: another array or tensor as $name",
        ))
    end
end

"The output tensor and the input tensors of a call; those of floating-point numbers record gradients if wanted."
function call_torch(layer::TorchModule, inputs; train, is_recorded)
    check_memory(layer)
    torch = pyimport("torch")
    layer.object.train(train)
    was_enabled = torch.is_grad_enabled()
    torch.set_grad_enabled(is_recorded)
    try
        tensors = map(tensor_of, inputs)
        for (tensor, input) in zip(tensors, inputs)
            is_recorded && eltype(input) <: AbstractFloat && tensor.requires_grad_(true)
        end
        output = layer.object(tensors...)
        pyisinstance(output, torch.Tensor) ||
            throw(ConfigError("a TorchModule must return one tensor. Received: $(pytype(output))"))
        return output, tensors
    finally
        torch.set_grad_enabled(was_enabled)
    end
end

function (layer::TorchModule)(inputs::AbstractArray...)
    return with_python() do
        output, _ = call_torch(layer, inputs; train=something(layer.active, false), is_recorded=false)
        array_of(output)
    end
end

function ChainRulesCore.rrule(layer::TorchModule, inputs::AbstractArray...)
    output, tensors = with_python(
        () -> call_torch(layer, inputs; train=something(layer.active, true), is_recorded=true)
    )
    y = with_python(() -> array_of(output))
    function torch_pullback(gradient)
        gradient = unthunk(gradient)
        gradient isa AbstractArray || return (ZeroTangent(), map(_ -> ZeroTangent(), inputs)...)
        return with_python(() -> torch_gradients(layer, output, tensors, convert(Array{eltype(y)}, gradient)))
    end
    return y, torch_pullback
end

function torch_gradients(layer, output, tensors, gradient)
    named = [pyconvert(String, name) => parameter for (name, parameter) in layer.object.named_parameters()]
    sources = Any[tensors..., last.(named)...]
    wanted = [k for (k, source) in enumerate(sources) if pyconvert(Bool, source.requires_grad)]
    gradients = Any[ZeroTangent() for _ in sources]
    if !isempty(wanted) && pyconvert(Bool, output.requires_grad)
        found = pyimport("torch").autograd.grad(
            output, pybuiltins.list(sources[wanted]), tensor_of(gradient); retain_graph=true, allow_unused=true
        )
        for (k, tensor) in zip(wanted, found)
            pyis(tensor, pybuiltins.None) || (gradients[k] = array_of(tensor))
        end
    end
    of_inputs = map(1:length(tensors)) do k
        pyconvert(Bool, sources[k].is_floating_point()) ? gradients[k] : NoTangent()
    end
    names = keys(layer.parameters)
    of_parameters = NamedTuple{names}(Tuple(gradients[(length(tensors) + 1):end]))
    parameters = Tangent{typeof(layer.parameters)}(; of_parameters...)
    return (Tangent{typeof(layer)}(; parameters), of_inputs...)
end

"A copy has a torch module of its own."
Base.deepcopy_internal(layer::TorchModule, known::IdDict) =
    get!(() -> copied(layer), known, layer)

function copied(layer)
    new = with_python(() -> MobileNets.TorchModule(pyimport("copy").deepcopy(layer.object)))
    new.active = layer.active
    return new
end
