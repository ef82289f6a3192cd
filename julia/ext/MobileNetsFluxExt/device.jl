# Computation on a GPU: by stock Flux layers, moved there by Flux's device functions. Weights, optimizer slots and
# updates stay in the arrays of the model; the weights are copied to the device in every call.

function Models.DeviceWorkspace(model::MobileNet, device)
    # With momentum 1, the running statistics of Flux's norms are those of the last batch.
    config = with_fields(model.config; norm_momentum=1, dropout=0, softmax=false)
    layers = flux_chain(model_from_state(config, Dict{String,Array}(get_state(model)))).layers
    chain = Flux.Chain(Flux.Chain(layers[1:(end - 1)]...), layers[end])
    return DeviceWorkspace(device, device(chain), IdDict{Array,Array}())
end
Models.DeviceWorkspace(model::MobileNet, name::Union{Symbol,AbstractString}) =
    DeviceWorkspace(model, device_named(string(name)))

function device_named(name)
    name == "mps" && throw(ConfigError(
        "NNlib has no convolutions for Metal: choose cpu, or torch. Received: device \"mps\""
    ))
    name == "cuda" || throw(ConfigError("device must be cpu or cuda. Received: $(repr(name))"))
    MLDataDevices.loaded(CUDADevice) || throw(ConfigError(
        "device cuda requires CUDA.jl and cuDNN.jl: add them to the project, and load them before. " *
        "Received: a Julia without them"
    ))
    MLDataDevices.functional(CUDADevice) ||
        throw(ConfigError("CUDA.jl finds no GPU that it can use: choose cpu. Received: device \"cuda\""))
    return CUDADevice()
end

function Models.eval_logits(model, x, (; device, chain)::DeviceWorkspace)
    return Array(Flux.testmode!(load_flux!(chain, model))(device(x)))
end

"As on the CPU; the loss is computed there, from the scores."
function Models.backpropagate(model::MobileNet, x, labels, masks, (; device, chain)::DeviceWorkspace)
    x = checked_images(model, x)
    labels = checked_labels(model, labels, size(x, 4))
    check_trainable(model, x)
    masks = something(checked_masks(model, masks, x), Dict{String,Array}())
    keys(masks) ⊆ (DROPOUT,) || throw(ConfigError(
        "a DeviceWorkspace supports no mask but $DROPOUT. Received: $(truncated(sort!(collect(keys(masks)))))"
    ))
    Flux.trainmode!(load_flux!(chain, model))
    images, factors = device(x), haskey(masks, DROPOUT) ? device(masks[DROPOUT]) : nothing
    scores, pullback = Flux.pullback(chain.layers) do (features, dense)
        dense(apply_dropout(features(images), factors))
    end
    loss, loss_pullback = rrule(cross_entropy, Array(scores), labels)
    layer_gradients, = pullback(device(loss_pullback(1.0)[2]))
    unit_leaves, dense = paired_leaves(model.config, layer_gradients, "gradient")
    gradients = Array[]
    for (_, conv, norm) in unit_leaves
        push!(
            gradients, flip_kernel(Array(conv.fields.weight)), Array(norm.fields.γ), Array(norm.fields.β)
        )
    end
    push!(gradients, dense_weight(Array(dense.fields.weight)), Array(dense.fields.bias))
    return loss, gradients, batch_statistics(model, chain, x)
end

"The batch's mean and biased variance of each unit, from the chain's running statistics, whose variance is unbiased."
function batch_statistics(model::MobileNet, chain, x)
    columns, rows, _, images = size(x)
    unit_leaves, _ = paired_leaves(model.config, Flux.state(chain), "chain")
    return map(unit_leaves) do (layer, _, norm)
        columns, rows = output_size(layer, columns), output_size(layer, rows)
        count = columns * rows * images
        return Float64.(Array(norm.fields.μ)), Float64.(Array(norm.fields.σ²)) .* ((count - 1) / count)
    end
end

function Models.freeze(model::MobileNet, (; device, chain)::DeviceWorkspace)
    frozen_chain = Flux.testmode!(load_flux!(deepcopy(chain), model))
    return function (x)
        scores = Array(frozen_chain(device(checked_images(model, x))))
        return model.config.softmax ? softmax(scores) : scores
    end
end
