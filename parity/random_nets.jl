# Builds the Flux model of a net that `random_nets.py` describes. Its weights are Flux's own: they are ported.

using Flux
using MobileNets: MobileNets

const JSON = MobileNets.Configs.JSON

const FUNCTIONS = Dict(
    "relu" => relu, "relu6" => relu6, "hardswish" => hardswish, "silu" => swish, "tanh" => tanh,
    "sigmoid" => sigmoid, "leaky_relu" => leakyrelu, "elu" => elu, "softplus" => softplus, "gelu_tanh" => gelu,
    "identity" => identity,
)

"The maps flattened as Keras does: channels first in memory."
flatten_channels_last(x) = Flux.flatten(permutedims(x, (3, 1, 2, 4)))

# Chains hold vectors: the type of a chain of a tuple names all its layers, and is compiled anew for each net.
chain(specs) = Chain(Any[layer(spec) for spec in specs])

sizes(values) = Tuple(reverse(values)) # torch's axes: height, then width

function layer(spec)
    kind = spec["kind"]
    if kind == "conv"
        (low, high), (left, right) = spec["padding"]
        return Conv(
            sizes(spec["kernel"]), spec["in"] => spec["out"];
            stride=sizes(spec["stride"]), pad=(left, right, low, high), dilation=sizes(spec["dilation"]),
            groups=spec["groups"], bias=spec["bias"],
        )
    end
    kind == "conv_transpose" && return ConvTranspose(
        sizes(spec["kernel"]), spec["in"] => spec["out"]; stride=sizes(spec["stride"]), groups=spec["groups"],
        bias=spec["bias"],
    )
    kind == "batch_norm" && return BatchNorm(spec["channels"]; eps=Float32(spec["eps"]))
    kind == "group_norm" && return GroupNorm(spec["channels"], spec["groups"]; eps=Float32(spec["eps"]))
    kind == "instance_norm" && return InstanceNorm(spec["channels"]; affine=true, eps=Float32(spec["eps"]))
    kind == "layer_norm" && return LayerNorm(sizes(spec["shape"]); eps=Float32(sqrt(spec["eps"])))
    kind == "activation" && return FUNCTIONS[spec["function"]]
    kind in ("max_pool", "mean_pool") && return (kind == "max_pool" ? MaxPool : MeanPool)(
        (spec["size"], spec["size"]); stride=spec["stride"], pad=spec["padding"],
    )
    kind == "adaptive_pool" && return AdaptiveMeanPool(sizes(spec["size"]))
    kind == "upsample" && return Upsample(Symbol(spec["mode"]); scale=(2, 2))
    kind == "residual" && return SkipConnection(chain(spec["layers"]), +)
    kind == "parallel" && return Parallel(+, map(chain, spec["branches"])...)
    kind == "dropout" && return Dropout(spec["p"])
    kind == "dense" && return Dense(spec["in"] => spec["out"]; bias=spec["bias"])
    kind == "global_pool" && return GlobalMeanPool()
    kind == "flatten" && return Flux.flatten
    kind == "flatten_channels_last" && return flatten_channels_last
    error("no layer is built for $kind")
end

build_net(text) = chain(JSON.parse(text))
