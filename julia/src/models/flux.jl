# What the extension of Flux, in ext/MobileNetsFluxExt, adds: the model in Flux's own layers, and computation by them on
# a GPU.

"A kernel (kW, kH, I/groups, O) as `Flux.Conv` stores it, flipped; and back."
flip_kernel(weight) = reverse(weight; dims=(1, 2))

"The classifier's weight (in, out) as `Flux.Dense` stores it, (out, in); and back."
dense_weight(weight) = permutedims(weight)

"""
    MobileNets.flux_chain(model)

The model as a stock `Flux.Chain` of `Conv`, `BatchNorm`, `GlobalMeanPool`, `Flux.flatten` and `Dense`, with copies
of its weights. Outputs differ by rounding. Residual blocks are `SkipConnection`s; dropout and softmax are included
if the config has them. `eps` and `momentum` have the element type of the model.

```jldoctest
julia> using Flux

julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> x = ones(Float32, 32, 32, 3, 2);

julia> MobileNets.flux_chain(model)(x) ≈ predict(model, x)
true
```
"""
function flux_chain end

"""
    MobileNets.load_flux!(chain, model)

Copy the weights of `model` into a stock Flux model, with any nesting, whose layers are those of its config: from
`flux_chain`, from Metalhead, or user-defined. Biases of its `Conv`s are set to zero. Returns `chain`.

Throws a `WeightsError` for a model whose layers differ, before any weight is copied.

```jldoctest
julia> using Flux

julia> config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10);

julia> chain = MobileNets.flux_chain(MobileNet(config; seed=1));

julia> x, model = ones(Float32, 32, 32, 3, 2), MobileNet(config);

julia> MobileNets.load_flux!(chain, model)(x) ≈ predict(model, x)
true
```
"""
function load_flux! end

"The `Flux.state` of the model in Flux's own layers."
function flux_state_of end

"""
    DeviceWorkspace(model, device)

A workspace for [`predict`](@ref), [`loss_and_grads`](@ref), [`train_step!`](@ref) and [`fit!`](@ref) that computes on
another device, with the stock layers of [`MobileNets.flux_chain`](@ref) instead of the kernels of the model.
`device` is `:cuda`, which requires CUDA.jl and cuDNN.jl to be loaded, or a function that moves arrays, such as
`Flux.gpu_device()`. For this model and models of the same config.

Throws a `ConfigError` for a device that is not available, and for `:mps`: NNlib has no convolutions for Metal.

```jldoctest
julia> using Flux

julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> workspace = DeviceWorkspace(model, Flux.cpu_device());

julia> x = ones(Float32, 32, 32, 3, 2);

julia> predict(model, x; workspace) ≈ predict(model, x)
true
```
"""
struct DeviceWorkspace{D,C}
    device::D
    chain::C
    sums::IdDict{Array,Array}
end

Base.show(io::IO, workspace::DeviceWorkspace) = print(io, "DeviceWorkspace(", workspace.device, ")")

Kernels.reset!(::DeviceWorkspace, _) = nothing
