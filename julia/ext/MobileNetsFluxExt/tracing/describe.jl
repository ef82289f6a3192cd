# What a record says of each layer of Flux.

"Activation function => its name in records."
const ACTIVATIONS = (
    NNlib.relu => "relu", NNlib.relu6 => "relu6", NNlib.hardswish => "hardswish", NNlib.hardσ => "hardsigmoid",
    NNlib.swish => "silu", NNlib.σ => "sigmoid", NNlib.tanh_fast => "tanh", NNlib.sigmoid_fast => "sigmoid",
    NNlib.mish => "mish", NNlib.softplus => "softplus", NNlib.gelu_tanh => "gelu_tanh",
    NNlib.leakyrelu => "leaky_relu", NNlib.elu => "elu",
)

"Tell the core of this package the names of functions of NNlib and Flux."
function add_functions!()
    merge!(Tracing.ACTIVATIONS, Dict{Any,String}(ACTIVATIONS))
    for (name, traced) in (:gelu_erf => "gelu", :gelu => "gelu_tanh")
        isdefined(NNlib, name) && get!(Tracing.ACTIVATIONS, getfield(NNlib, name), traced)
    end
    merge!(Tracing.FUNCTIONS, Dict{Any,String}(
        NNlib.softmax => "softmax", NNlib.logsoftmax => "log_softmax", Flux.flatten => "flatten",
        Flux.MLUtils.flatten => "flatten",
    ))
    return nothing
end

const Norm = Union{Flux.BatchNorm,Flux.InstanceNorm,Flux.GroupNorm}

"Layers of Flux that are recorded as they are."
const Leaf = Union{
    Flux.Conv,Flux.CrossCor,Flux.ConvTranspose,Flux.Dense,Norm,Flux.LayerNorm,Flux.MaxPool,Flux.MeanPool,
    Flux.AdaptiveMaxPool,Flux.AdaptiveMeanPool,Flux.GlobalMaxPool,Flux.GlobalMeanPool,Flux.Dropout,Flux.Upsample,
}
without_activation(layer, field) = copy_with(layer, Dict(field => identity))

Tracing.steps(layer::Flux.Conv) = convolution("conv", layer, true)
Tracing.steps(layer::Flux.CrossCor) = convolution("conv", layer, false)
Tracing.steps(layer::Flux.ConvTranspose) = convolution("conv_transpose", layer, true)
Tracing.steps(layer::Flux.Dense) = with_activation(
    Step("dense", without_activation(layer, :σ); params=arrays("weight" => layer.weight, "bias" => layer.bias)),
    layer.σ, layer,
)
Tracing.steps(layer::Flux.Dropout) = [Step("dropout", identity; settings=setting("p" => Float64(layer.p)))]
Tracing.steps(layer::Union{Flux.GlobalMeanPool,Flux.AdaptiveMeanPool}) = [adaptive("mean_pool", layer)]
Tracing.steps(layer::Union{Flux.GlobalMaxPool,Flux.AdaptiveMaxPool}) = [adaptive("max_pool", layer)]
Tracing.steps(layer::Flux.MaxPool) = [pool("max_pool", layer)]
Tracing.steps(layer::Flux.MeanPool) = [pool("mean_pool", layer)]

function Tracing.steps(layer::Norm)
    kind = layer isa Flux.BatchNorm ? "batch_norm" : layer isa Flux.GroupNorm ? "group_norm" : "instance_norm"
    params = arrays("weight" => layer.γ, "bias" => layer.β, "running_mean" => layer.μ, "running_var" => layer.σ²)
    uses_batch = layer.μ === nothing || layer.active === true
    settings = setting("eps" => Float64(layer.ϵ), "training" => uses_batch)
    layer isa Flux.BatchNorm && append!(settings, setting("momentum" => Float64(layer.momentum)))
    layer isa Flux.GroupNorm && append!(settings, setting("groups" => layer.G))
    return with_activation(Step(kind, without_activation(layer, :λ); params, settings), layer.λ, layer)
end

function Tracing.steps(layer::Flux.LayerNorm)
    params = layer.diag isa Flux.Scale ? arrays("weight" => layer.diag.scale, "bias" => layer.diag.bias) : arrays()
    settings = setting("eps" => Float64(layer.ϵ), "axes" => length(layer.size), "eps_squared" => true) # Flux.normalise
    return [Step("layer_norm", layer; params, settings)]
end

function Tracing.steps(layer::Flux.Upsample{mode}) where {mode}
    mode in (:nearest, :bilinear) || return [Step("other", layer; settings=setting("function" => "Upsample"))]
    aligned = mode == :bilinear # NNlib's default
    settings = setting("mode" => string(mode), "align_corners" => aligned, "antialias" => false)
    sizes(value) = value isa Number ? [value, value] : reverse(collect(value))
    name, value = layer.size === nothing ? ("scale", layer.scale) : ("output_size", layer.size)
    return [Step("resize", layer; settings=append!(settings, setting(name => sizes(value))))]
end

function convolution(kind, layer, flips)
    axes = length(layer.stride)
    settings = setting(
        "stride" => reverse(collect(layer.stride)), "padding" => padding_pairs(layer.pad, axes),
        "dilation" => reverse(collect(layer.dilation)),
        "groups" => hasproperty(layer, :groups) ? layer.groups : 1, "flipped" => flips,
    )
    hasproperty(layer, :outpad) && append!(settings, setting("output_padding" => reverse(collect(layer.outpad))))
    params = arrays("weight" => layer.weight, "bias" => layer.bias)
    return with_activation(Step(kind, without_activation(layer, :σ); params, settings), layer.σ, layer)
end

adaptive(kind, layer) = Step(
    kind, layer;
    settings=hasproperty(layer, :out) ? setting("output_size" => reverse(collect(layer.out)), "windows" => "fixed") :
        setting("output_size" => [1, 1]),
)

pool(kind, layer) = Step(
    kind, layer;
    settings=setting(
        "size" => reverse(collect(layer.k)), "stride" => reverse(collect(layer.stride)),
        "padding" => padding_pairs(layer.pad, length(layer.k)), "count_padding" => true,
    ),
)
