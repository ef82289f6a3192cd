# Computing on a GPU: stock layers of Flux there, put there by Flux's own device functions. Weights, moments
# and updates stay here, in the arrays of the model, and go there with every call.

"""
    DeviceWorkspace(model, device)

A workspace for `predict`, `loss_and_grads`, `train_step!` and `fit!` on another device, in which the stock
layers of [`MobileNets.flux_chain`](@ref) compute in place of the model's kernels. `device` is `"cuda"`, for
which CUDA.jl and cuDNN.jl have to be loaded, or a function of Flux's that moves arrays, as
`Flux.gpu_device()` gives it. For this model, or one of the same config.

Throws a `ConfigError` for a device that is not there, and for `"mps"`: NNlib has no convolutions for Metal.
"""
struct DeviceWorkspace{D,C}
    device::D
    chain::C
    sums::IdDict{Array,Array}
end

function DeviceWorkspace(model::MobileNet, device)
    # With a momentum of 1, the running statistics of Flux's norms are those of the last batch.
    config = with_fields(model.config; norm_momentum=1, dropout=0, softmax=false)
    layers = flux_chain(model_of(config, Dict{String,Array}(get_state(model)))).layers
    chain = Flux.Chain(Flux.Chain(layers[1:(end - 1)]...), layers[end])
    return DeviceWorkspace(device, device(chain), IdDict{Array,Array}())
end
DeviceWorkspace(model::MobileNet, name::AbstractString) = DeviceWorkspace(model, device_called(name))

Base.show(io::IO, room::DeviceWorkspace) = print(io, "DeviceWorkspace(", room.device, ")")

with_fields(config::MobileNetConfig; changes...) = MobileNetConfig(;
    (name => getfield(config, name) for name in fieldnames(MobileNetConfig))..., changes...
)

function device_called(name)
    name == "mps" && throw(ConfigError(
        "NNlib has no convolutions for Metal: choose cpu, or torch. Received: device \"mps\""
    ))
    name == "cuda" || throw(ConfigError("device must be cpu or cuda. Received: $(repr(name))"))
    MLDataDevices.loaded(CUDADevice) || throw(ConfigError(
        "device cuda needs CUDA.jl and cuDNN.jl: add them to the project, and load them before. " *
        "Received: a Julia without them"
    ))
    MLDataDevices.functional(CUDADevice) ||
        throw(ConfigError("CUDA.jl finds no GPU that it can use here: choose cpu. Received: device \"cuda\""))
    return CUDADevice()
end

reset!(::DeviceWorkspace, _) = nothing

function evaluate(model, x, (; device, chain)::DeviceWorkspace)
    return Array(Flux.testmode!(load_flux!(chain, model))(device(x)))
end

"As of the kernels; the loss of the scores is computed here."
function backpropagate(model::MobileNet, x, labels, masks, (; device, chain)::DeviceWorkspace)
    x = checked_images(model, x)
    labels = checked_labels(model, labels, size(x, 4))
    check_trainable(model, x)
    masks = something(checked_masks(model, masks, x), Dict{String,Array}())
    keys(masks) ⊆ (DROPOUT,) || throw(ConfigError(
        "on another device no mask but $DROPOUT is known. Received: $(some(sort!(collect(keys(masks)))))"
    ))
    Flux.trainmode!(load_flux!(chain, model))
    images, factors = device(x), haskey(masks, DROPOUT) ? device(masks[DROPOUT]) : nothing
    scores, pullback = Flux.pullback(chain.layers) do (features, dense)
        dense(drop(features(images), factors))
    end
    loss, loss_pullback = rrule(cross_entropy, Array(scores), labels)
    slopes, = pullback(device(loss_pullback(1.0)[2]))
    found, dense = paired_leaves(model.config, slopes, "gradient")
    gradients = Array[]
    for (_, conv, norm) in found
        push!(gradients, flipped(Array(conv.fields.weight)), Array(norm.fields.γ), Array(norm.fields.β))
    end
    push!(gradients, dense_weight(Array(dense.fields.weight)), Array(dense.fields.bias))
    return loss, gradients, held_statistics(model, chain, x)
end

"The batch's mean and biased variance for each unit, which the norms hold; their variance is unbiased."
function held_statistics(model::MobileNet, chain, x)
    columns, rows, _, images = size(x)
    units, _ = paired_leaves(model.config, Flux.state(chain), "chain")
    return map(units) do (layer, _, norm)
        columns, rows = output_size(layer, columns), output_size(layer, rows)
        count = columns * rows * images
        return Float64.(Array(norm.fields.μ)), Float64.(Array(norm.fields.σ²)) .* ((count - 1) / count)
    end
end

"A function that gives what `predict` gives now, from weights that lie there."
function freeze(model::MobileNet, (; device, chain)::DeviceWorkspace)
    kept = Flux.testmode!(load_flux!(deepcopy(chain), model))
    return function (x)
        scores = Array(kept(device(checked_images(model, x))))
        return model.config.softmax ? softmax(scores) : scores
    end
end
