# What a record says of each layer of Flux. A layer with an activation function is two steps: the layer without it, and
# the function.

"One step of a layer: what a record says of it, and the function that computes it."
struct Step
    suffix::String
    kind::String
    params::Vector{Pair{String,Any}}
    settings::Vector{Pair{String,Any}}
    run::Any
end

Step(kind, layer; suffix="", params=Pair{String,Any}[], settings=Pair{String,Any}[]) =
    Step(suffix, kind, params, settings, layer)

const ACTIVATIONS = Dict{Any,String}(
    NNlib.relu => "relu", NNlib.relu6 => "relu6", NNlib.hardswish => "hardswish", NNlib.hardσ => "hardsigmoid",
    NNlib.swish => "silu", NNlib.σ => "sigmoid", tanh => "tanh", NNlib.tanh_fast => "tanh",
    NNlib.sigmoid_fast => "sigmoid", NNlib.mish => "mish", NNlib.softplus => "softplus", NNlib.gelu_tanh => "gelu_tanh",
    NNlib.leakyrelu => "leaky_relu", NNlib.elu => "elu",
)
for (name, traced) in (:gelu_erf => "gelu", :gelu => "gelu_tanh")
    isdefined(NNlib, name) && get!(ACTIVATIONS, getfield(NNlib, name), traced)
end

const Norm = Union{Flux.BatchNorm,Flux.InstanceNorm,Flux.GroupNorm}
const Leaf = Union{
    Flux.Conv,Flux.CrossCor,Flux.ConvTranspose,Flux.Dense,Norm,Flux.LayerNorm,Flux.MaxPool,Flux.MeanPool,
    Flux.AdaptiveMaxPool,Flux.AdaptiveMeanPool,Flux.GlobalMaxPool,Flux.GlobalMeanPool,Flux.Dropout,Flux.Upsample,
}
"Layers of Flux that are recorded as they are."

"A copy of a layer with some fields replaced."
function with_fields(layer, values)
    type = Base.typename(typeof(layer)).wrapper
    return type((get(values, name, getfield(layer, name)) for name in fieldnames(typeof(layer)))...)
end

without_activation(layer, field) = with_fields(layer, Dict(field => identity))

"The steps of a layer, in order."
steps(layer) = [Step("other", layer; settings=setting("function" => string(nameof(typeof(layer)))))]
steps(layer::Flux.Conv) = convolution("conv", layer, true)
steps(layer::Flux.CrossCor) = convolution("conv", layer, false)
steps(layer::Flux.ConvTranspose) = convolution("conv_transpose", layer, true)
steps(layer::Flux.Dense) = with_activation(
    Step("dense", without_activation(layer, :σ); params=arrays("weight" => layer.weight, "bias" => layer.bias)),
    layer.σ, layer,
)
steps(layer::Flux.Dropout) = [Step("dropout", identity; settings=setting("p" => Float64(layer.p)))]
steps(layer::Union{Flux.GlobalMeanPool,Flux.AdaptiveMeanPool}) = [adaptive("mean_pool", layer)]
steps(layer::Union{Flux.GlobalMaxPool,Flux.AdaptiveMaxPool}) = [adaptive("max_pool", layer)]
steps(layer::Flux.MaxPool) = [pool("max_pool", layer)]
steps(layer::Flux.MeanPool) = [pool("mean_pool", layer)]

function steps(layer::Norm)
    kind = layer isa Flux.BatchNorm ? "batch_norm" : layer isa Flux.GroupNorm ? "group_norm" : "instance_norm"
    params = arrays("weight" => layer.γ, "bias" => layer.β, "running_mean" => layer.μ, "running_var" => layer.σ²)
    uses_batch = layer.μ === nothing || layer.active === true
    settings = setting("eps" => Float64(layer.ϵ), "training" => uses_batch)
    layer isa Flux.BatchNorm && append!(settings, setting("momentum" => Float64(layer.momentum)))
    layer isa Flux.GroupNorm && append!(settings, setting("groups" => layer.G))
    return with_activation(Step(kind, without_activation(layer, :λ); params, settings), layer.λ, layer)
end

function steps(layer::Flux.LayerNorm)
    params = layer.diag isa Flux.Scale ? arrays("weight" => layer.diag.scale, "bias" => layer.diag.bias) : arrays()
    settings = setting("eps" => Float64(layer.ϵ), "axes" => length(layer.size), "eps_squared" => true) # Flux.normalise
    return [Step("layer_norm", layer; params, settings)]
end

function steps(layer::Flux.Upsample{mode}) where {mode}
    mode in (:nearest, :bilinear) || return [Step("other", layer; settings=setting("function" => "Upsample"))]
    aligned = mode == :bilinear # NNlib's default
    settings = setting("mode" => string(mode), "align_corners" => aligned, "antialias" => false)
    sizes(value) = value isa Number ? [value, value] : reverse(collect(value))
    name, value = layer.size === nothing ? ("scale", layer.scale) : ("output_size", layer.size)
    return [Step("resize", layer; settings=append!(settings, setting(name => sizes(value))))]
end

function steps(f::Function)
    f === identity && return [Step("identity", f)]
    f === (+) && return [Step("add", f)]
    f === (*) && return [Step("multiply", f)]
    haskey(ACTIVATIONS, f) && return [Step("activation", broadcasted(f); settings=setting("function" => ACTIVATIONS[f]))]
    f === NNlib.softmax && return [Step("softmax", f)]
    f === NNlib.logsoftmax && return [Step("log_softmax", f)]
    f in (Flux.flatten, Flux.MLUtils.flatten) && return [Step("flatten", f)]
    return [Step("other", f; settings=setting("function" => string(f)))]
end

"An elementwise function, applied to a number in a layer's field and to an array in a `Chain`."
broadcasted(f) = x -> x isa AbstractArray ? f.(x) : f(x)

setting(pairs...) = Pair{String,Any}[pairs...]
arrays(pairs...) = Pair{String,Any}[name => Array(array) for (name, array) in pairs if array isa AbstractArray]

function with_activation(step, activation, layer)
    activation === identity && return [step]
    name = get(ACTIVATIONS, activation, string(activation))
    return [step, Step("activation", broadcasted(activation); suffix=".σ", settings=setting("function" => name))]
end

"The pixels before and after each spatial axis, from torch's first axis to its last."
function padding_pairs(pad, axes)
    pairs = length(pad) == axes ? [(p, p) for p in pad] : [(pad[2i - 1], pad[2i]) for i in 1:axes]
    return reverse(pairs)
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
