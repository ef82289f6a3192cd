# Computing on a device, played by JLArrays' arrays: like those on a GPU they refuse to be read value by
# value, and do not mix with arrays of the CPU. Convolutions and pools are what a GPU's own library brings.

using Flux: Flux
using JLArrays: JLArray, JLArrays
using LinearAlgebra: norm
using MobileNets
using NNlib: NNlib
using StableRNGs: StableRNG
using Test

const ThereArray{N} = JLArray{<:Any,N}

NNlib.conv!(y::ThereArray{4}, x::ThereArray{4}, w::ThereArray{4}, dims::NNlib.DenseConvDims; options...) =
    copyto!(y, NNlib.conv(Array(x), Array(w), dims; options...))
NNlib.∇conv_data!(
    dx::ThereArray{4}, dy::ThereArray{4}, w::ThereArray{4}, dims::NNlib.DenseConvDims; options...
) = copyto!(dx, NNlib.∇conv_data(Array(dy), Array(w), dims; options...))
NNlib.∇conv_filter!(
    dw::ThereArray{4}, x::ThereArray{4}, dy::ThereArray{4}, dims::NNlib.DenseConvDims; options...
) = copyto!(dw, NNlib.∇conv_filter(Array(x), Array(dy), dims; options...))
NNlib.meanpool!(y::ThereArray{4}, x::ThereArray{4}, dims::NNlib.PoolDims; options...) =
    copyto!(y, NNlib.meanpool(Array(x), dims; options...))
NNlib.∇meanpool!(
    dx::ThereArray{4}, dy::ThereArray{4}, y::ThereArray{4}, x::ThereArray{4}, dims::NNlib.PoolDims; options...
) = copyto!(dx, NNlib.∇meanpool(Array(dy), Array(y), Array(x), dims; options...))

there(model) = Flux.fmap(leaf -> leaf isa AbstractArray{<:Number} ? JLArray(leaf) : leaf, model)

@testset "a step of $family there is a step here" for family in ("v1", "v2")
    JLArrays.allowscalar(false)
    config = MobileNetConfig(; family, width_mult=0.1, resolution=32, num_classes=7, stem_stride=1, dropout=0.2,
        rounding="nearest")
    rng = StableRNG(1)
    x, labels = randn(rng, 32, 32, 3, 4), rand(rng, 0:6, 4)
    factors = rand(rng, (0.0, 1.25), MobileNets.feature_channels(config), 4)
    masks = Dict{String,Array}("dropout" => factors)
    train = TrainConfig(; batch_size=4, nesterov=true, clip_norm=0.5)
    models = build(config; dtype=Float64), build(config; dtype=Float64)
    optimizers = setup.(Ref(train), models)
    rooms = DeviceWorkspace(models[1], there), Workspace()
    @test all(array -> array isa JLArray, Flux.trainables(rooms[1].chain))
    results = map(models, optimizers, rooms) do model, optimizer, workspace
        train_step!(model, optimizer, x, labels, 1e-3; masks, workspace)
    end
    @test results[1][1] ≈ results[2][1] rtol = 1e-12
    whole = sqrt(sum(sum(abs2, last(gradient)) for gradient in results[2][2]))
    for ((_, found), (_, wanted)) in zip(results[1][2], results[2][2])
        @test norm(found - wanted) < 1e-10norm(wanted) + 1e-14whole
    end
    for ((_, found), (_, wanted)) in zip(get_state.(models)...)
        @test norm(found - wanted) <= 1e-10norm(wanted) + 1e-14whole
    end
    @test predict(models[1], x; workspace=rooms[1]) ≈ predict(models[1], x) rtol = 1e-12
    @test MobileNets.freeze(models[1], rooms[1])(x) ≈ predict(models[1], x) rtol = 1e-12
end
