# The nets of `classic_nets.py` in Flux. Their weights are Flux's own: they are ported.

using Flux

const CLASSES = 6

conv_norm(kernel, channels, activation=identity; stride=1, pad=0) =
    (Conv(kernel, channels; stride, pad, bias=false), BatchNorm(last(channels), activation))

"He et al., arXiv:1512.03385, figure 5, left."
struct BasicBlock{M,S}
    main::M
    shortcut::S
end
Flux.@layer BasicBlock
(block::BasicBlock)(x) = relu.(block.main(x) .+ block.shortcut(x))

function BasicBlock(inputs::Int, outputs::Int, stride::Int)
    main = Chain(
        conv_norm((3, 3), inputs => outputs, relu; stride, pad=1)..., conv_norm((3, 3), outputs => outputs; pad=1)...,
    )
    is_same = stride == 1 && inputs == outputs
    return BasicBlock(main, is_same ? identity : Chain(conv_norm((1, 1), inputs => outputs; stride)...))
end

function resnet18(; width=8)
    sizes = [width; repeat(width .* [1, 2, 4, 8]; inner=2)]
    blocks = [BasicBlock(sizes[k], sizes[k + 1], k in (3, 5, 7) ? 2 : 1) for k in 1:8]
    return Chain(
        conv_norm((7, 7), 3 => width, relu; stride=2, pad=3)..., MaxPool((3, 3); stride=2, pad=1), Chain(blocks),
        GlobalMeanPool(), Flux.flatten, Dense(last(sizes) => CLASSES),
    )
end

"Simonyan and Zisserman, arXiv:1409.1556, with three stages; for images of 24x32 pixels."
function vgg(; width=6)
    stage(inputs, outputs) = Chain(
        Conv((3, 3), inputs => outputs, relu; pad=SamePad()), Conv((3, 3), outputs => outputs, relu; pad=SamePad()),
        MaxPool((2, 2)),
    )
    return Chain(
        stage(3, width), stage(width, 2width), stage(2width, 4width), Flux.flatten,
        Dense(4width * 12 => 20, relu), Dropout(0.5), Dense(20 => CLASSES),
    )
end

"Ronneberger et al., arXiv:1505.04597, one level deep; the mean of the maps is classified."
struct UNet{D,M,U,J,H}
    down::D
    middle::M
    up::U
    joined::J
    head::H
end
Flux.@layer UNet

function UNet(; width=6)
    unit(inputs, outputs) = Chain(Conv((3, 3), inputs => outputs; pad=1), GroupNorm(outputs, 2, swish))
    return UNet(
        unit(3, width), unit(width, 2width), ConvTranspose((2, 2), 2width => width; stride=2), unit(2width, width),
        Chain(Conv((1, 1), width => CLASSES), GlobalMeanPool(), Flux.flatten),
    )
end

function (net::UNet)(x)
    wide = net.down(x)
    deep = net.middle(Flux.maxpool(wide, (2, 2)))
    return net.head(net.joined(cat(net.up(deep), wide; dims=3)))
end

mlp(; features=3 * 9 * 14) = Chain(
    Flux.flatten, Dense(features => 24), LayerNorm(24; eps=1.0f-3), x -> gelu.(x), Dropout(0.2),
    Dense(24 => 24, tanh), Dense(24 => CLASSES),
)

const CLASSIC_NETS = Dict("resnet18" => resnet18, "vgg" => vgg, "unet" => UNet, "mlp" => mlp)

classic_net(name) = CLASSIC_NETS[string(name)]()
