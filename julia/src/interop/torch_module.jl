# A module of torch as a Flux layer; what it computes is in ext/torch_module.jl, which PythonCall loads.

"""
    TorchModule(object)

A `torch.nn.Module`, a Python object of PythonCall, as a Flux layer: it can be put into a `Chain`, `Flux.gradient`
gives its gradients, and `Flux.setup` its optimizer state. PythonCall has to be loaded.

`parameters` are arrays on torch's memory, by name; an optimizer of either framework changes them for both. Inputs are
arrays or several of them, of the type of the parameters, and the output is an array; torch sees their axes in reverse:
images (W, H, C, N) are (N, C, H, W) there. Gradients are computed by `torch.autograd.grad`.

The mode of the module is set in every call: training inside of a gradient call, as for Flux's own layers, or always
after `Flux.trainmode!`, never after `Flux.testmode!`.

Throws a `ConfigError` for another object, for parameters that are not on the CPU, and in a call if a parameter is no
longer torch's memory, such as after `Flux.f64`.
"""
mutable struct TorchModule{M,P<:NamedTuple}
    const object::M
    const parameters::P
    active::Union{Nothing,Bool}
end
Functors.@functor TorchModule (parameters,)

TorchModule(object) = throw(ConfigError(
    "TorchModule requires PythonCall to be loaded, and a torch.nn.Module. Received: $(typeof(object))"
))

Base.show(io::IO, layer::TorchModule) =
    print(io, "TorchModule(", length(layer.parameters), " parameters)")
