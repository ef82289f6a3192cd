# Computation on a device, with JLArrays as device arrays: like those of a GPU they cannot be indexed by scalars, nor
# mixed with arrays of the CPU. Convolutions and pooling, which a GPU library would implement, are computed on the CPU.

using Flux: Flux
using JLArrays: JLArray, JLArrays
using LinearAlgebra: norm
using MobileNets
using NNlib: NNlib
using StableRNGs: StableRNG
using Test

const DeviceArray{N} = JLArray{<:Any,N}

NNlib.conv!(y::DeviceArray{4}, x::DeviceArray{4}, w::DeviceArray{4}, dims::NNlib.DenseConvDims; options...) =
    copyto!(y, NNlib.conv(Array(x), Array(w), dims; options...))
NNlib.∇conv_data!(
    dx::DeviceArray{4}, dy::DeviceArray{4}, w::DeviceArray{4}, dims::NNlib.DenseConvDims; options...
) = copyto!(dx, NNlib.∇conv_data(Array(dy), Array(w), dims; options...))
NNlib.∇conv_filter!(
    dw::DeviceArray{4}, x::DeviceArray{4}, dy::DeviceArray{4}, dims::NNlib.DenseConvDims; options...
) = copyto!(dw, NNlib.∇conv_filter(Array(x), Array(dy), dims; options...))
NNlib.meanpool!(y::DeviceArray{4}, x::DeviceArray{4}, dims::NNlib.PoolDims; options...) =
    copyto!(y, NNlib.meanpool(Array(x), dims; options...))
NNlib.∇meanpool!(
    dx::DeviceArray{4}, dy::DeviceArray{4}, y::DeviceArray{4}, x::DeviceArray{4}, dims::NNlib.PoolDims; options...
) = copyto!(dx, NNlib.∇meanpool(Array(dy), Array(y), Array(x), dims; options...))

to_device(model) = Flux.fmap(leaf -> leaf isa AbstractArray{<:Number} ? JLArray(leaf) : leaf, model)

@testset "a step of $family on the device is that on the CPU" for family in (:v1, :v2)
    JLArrays.allowscalar(false)
    config = MobileNetConfig(; family, width_mult=0.1, resolution=32, num_classes=7, stem_stride=1, dropout=0.2,
        rounding=:nearest)
    rng = StableRNG(1)
    x, labels = randn(rng, 32, 32, 3, 4), rand(rng, 0:6, 4)
    factors = rand(rng, (0.0, 1.25), MobileNets.Configs.feature_channels(config), 4)
    masks = Dict{String,Array}("dropout" => factors)
    train = TrainConfig(; batch_size=4, nesterov=true, clip_norm=0.5)
    models = MobileNet(config; dtype=Float64), MobileNet(config; dtype=Float64)
    optimizers = setup_optimizer.(Ref(train), models)
    workspaces = DeviceWorkspace(models[1], to_device), Workspace()
    @test all(array -> array isa JLArray, Flux.trainables(workspaces[1].chain))
    results = map(models, optimizers, workspaces) do model, optimizer, workspace
        train_step!(model, optimizer, x, labels, 1e-3; masks, workspace)
    end
    @test results[1][1] ≈ results[2][1] rtol = 1e-12
    total = sqrt(sum(sum(abs2, last(gradient)) for gradient in results[2][2]))
    for ((_, gradient), (_, expected)) in zip(results[1][2], results[2][2])
        @test norm(gradient - expected) < 1e-10norm(expected) + 1e-14total
    end
    for ((_, array), (_, expected)) in zip(get_state.(models)...)
        @test norm(array - expected) <= 1e-10norm(expected) + 1e-14total
    end
    @test predict(models[1], x; workspace=workspaces[1]) ≈ predict(models[1], x) rtol = 1e-12
    @test MobileNets.freeze(models[1], workspaces[1])(x) ≈ predict(models[1], x) rtol = 1e-12
end
