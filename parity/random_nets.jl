# Builds the Flux model of a net that `random_nets.py` describes. Its weights are Flux's own: they are ported.

using Flux
using MobileNets: MobileNets

const JSON = MobileNets.Configs.JSON

const FUNCTIONS = Dict(
    "relu" => relu, "relu6" => relu6, "hardswish" => hardswish, "silu" => swish, "tanh" => tanh,
    "sigmoid" => sigmoid, "leaky_relu" => leakyrelu, "identity" => identity,
)

"An elementwise function as a layer."
elementwise(f) = x -> f.(x)

function layer(spec)
    kind = spec["kind"]
    if kind == "conv"
        stride, dilation, groups = spec["stride"], spec["dilation"], spec["groups"]
        (low, high), (left, right) = spec["padding"] # torch's axes: height, then width
        return Conv(
            Tuple(reverse(spec["kernel"])), spec["in"] => spec["out"];
            stride=Tuple(reverse(stride)), pad=(left, right, low, high), dilation=Tuple(reverse(dilation)), groups,
            bias=spec["bias"],
        )
    end
    kind == "conv_transpose" && return ConvTranspose(
        Tuple(reverse(spec["kernel"])), spec["in"] => spec["out"]; stride=Tuple(reverse(spec["stride"])),
        bias=spec["bias"],
    )
    kind == "batch_norm" && return BatchNorm(spec["channels"]; eps=Float32(spec["eps"]))
    kind == "group_norm" && return GroupNorm(spec["channels"], spec["groups"]; eps=Float32(spec["eps"]))
    kind == "activation" && return FUNCTIONS[spec["function"]]
    kind == "max_pool" && return MaxPool((2, 2))
    kind == "mean_pool" && return MeanPool((2, 2))
    kind == "residual" && return SkipConnection(Chain(layer.(spec["layers"])...), +)
    kind == "dense" && return Dense(spec["in"] => spec["out"]; bias=spec["bias"])
    kind == "global_pool" && return GlobalMeanPool()
    kind == "flatten" && return Flux.flatten
    error("no layer is built for $kind")
end

build_net(text) = Chain(map(layer, JSON.parse(text))...)
