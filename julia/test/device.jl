# Computing elsewhere, played by the CPU: all but the moving itself, which test/peers has.

using Flux: Flux
using LinearAlgebra: norm

const HERE = Flux.cpu_device()
relative(found, wanted) = norm(found - wanted) / norm(wanted)

"A model whose norms are no identity, and images."
function stirred(config, T)
    model, rng = build(config; dtype=T, seed=3), StableRNG(2)
    for (; norm) in MobileNets.units(model)
        norm.weight .+= T(0.2) .* randn(rng, T, length(norm.weight))
        norm.bias .+= T(0.2) .* randn(rng, T, length(norm.bias))
        norm.running_mean .+= T(0.2) .* randn(rng, T, length(norm.bias))
        norm.running_var .*= 1 .+ rand(rng, T, length(norm.bias))
    end
    return model, example(T; config, size=(32, 32), batch=4)...
end

const DROPPING = MobileNetConfig(;
    width_mult=0.1, resolution=32, num_classes=7, stem_stride=1, dropout=0.3, norm_eps=1e-3
)

@testset "the same outputs, loss and gradients: $(config.family)" for config in (TINY, TINY_V2, TINY_BOTTLENECK)
    model, x, labels = stirred(config, Float64)
    room = DeviceWorkspace(model, HERE)
    @test relative(predict(model, x; workspace=room), predict(model, x)) < 1e-12
    @test relative(MobileNets.freeze(model, room)(x), predict(model, x)) < 1e-12
    loss, gradients = loss_and_grads(model, x, labels; workspace=room)
    wanted, by_kernels = loss_and_grads(model, x, labels)
    @test loss ≈ wanted rtol = 1e-12
    @test first.(gradients) == first.(by_kernels)
    whole = sqrt(sum(sum(abs2, wanted) for (_, wanted) in by_kernels)) # some are nothing but rounding
    for ((name, found), (_, wanted)) in zip(gradients, by_kernels)
        @test norm(found - wanted) < 1e-10norm(wanted) + 1e-14whole
    end
end

@testset "a frozen model keeps its weights" begin
    model, x, _ = stirred(TINY, Float32)
    frozen = MobileNets.freeze(model, DeviceWorkspace(model, HERE))
    before = frozen(x)
    model.classifier.weight .= 0
    @test frozen(x) == before != predict(model, x; workspace=DeviceWorkspace(model, HERE))
end

@testset "steps move weights, moments and statistics as the kernels do" for parts in (1, 2)
    train = TrainConfig(; batch_size=4, accumulate=parts, nesterov=true, weight_decay=1e-3)
    model, x, labels = stirred(DROPPING, Float64)
    other = MobileNets.model_of(DROPPING, Dict{String,Array}(deepcopy(get_state(model))))
    factors = rand(StableRNG(5), (0.0, 2.0), size(model.classifier.weight, 1), 4)
    masks = Dict{String,Array}("dropout" => factors)
    optimizers, rooms = setup.(Ref(train), (model, other)), (DeviceWorkspace(model, HERE), Workspace())
    for _ in 1:2
        found = map((model, other), optimizers, rooms) do one, optimizer, workspace
            first(train_step!(one, optimizer, x, labels, 1e-3; masks, workspace))
        end
        @test found[1] ≈ found[2] rtol = 1e-10
    end
    states = get_state.((model, other), optimizers)
    for ((name, array), (_, wanted)) in zip(states...)
        @test array ≈ wanted rtol = 1e-7
    end
end

@testset "fit! trains there" begin
    rng = StableRNG(1)
    images, labels = rand(rng, UInt8, 32, 32, 3, 8), rand(rng, 0:6, 8)
    train = TrainConfig(; batch_size=4, steps=3)
    models = build(TINY; dtype=Float64), build(TINY; dtype=Float64)
    there = fit!(models[1], images, labels, train; workspace=DeviceWorkspace(models[1], HERE))
    @test there ≈ fit!(models[2], images, labels, train) rtol = 1e-9
end

@testset "refused" begin
    model, x, labels = stirred(TINY, Float64)
    named(name) = message(() -> DeviceWorkspace(model, name), ConfigError)
    @test named("tpu") == "device must be cpu or cuda. Received: \"tpu\""
    @test startswith(named("cuda"), "device cuda needs CUDA.jl and cuDNN.jl: add them to the project")
    @test startswith(named("mps"), "NNlib has no convolutions for Metal")
    masks = Dict{String,Array}("stem.act" => ones(UInt8, 32, 32, size(model.stem.conv.weight, 4), 4))
    room = DeviceWorkspace(model, HERE)
    text = message(() -> loss_and_grads(model, x, labels; masks, workspace=room), ConfigError)
    @test text == "on another device no mask but dropout is known. Received: stem.act"
    @test_throws DataError predict(model, Float32.(x); workspace=room)
    @test_throws DataError MobileNets.freeze(model, room)(Float32.(x))
    @test repr(room) == "DeviceWorkspace($HERE)"
end
