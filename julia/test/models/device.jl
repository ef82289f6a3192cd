# Computation on a device, with the CPU as the device; moving arrays to another one is tested in test/peers.

using Flux: Flux
using LinearAlgebra: norm
using MobileNets: freeze

const CPU = Flux.cpu_device()

"A model whose norms are not the identity, and images and labels."
function random_model(config, T)
    model, rng = MobileNet(config; dtype=T, seed=3), StableRNG(2)
    for (; norm) in Models.units(model)
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
    model, x, labels = random_model(config, Float64)
    workspace = DeviceWorkspace(model, CPU)
    @test relative_error(predict(model, x; workspace), predict(model, x)) < 1e-12
    @test relative_error(freeze(model, workspace)(x), predict(model, x)) < 1e-12
    loss, gradients = loss_and_grads(model, x, labels; workspace)
    expected_loss, expected_gradients = loss_and_grads(model, x, labels)
    @test loss ≈ expected_loss rtol = 1e-12
    @test first.(gradients) == first.(expected_gradients)
    # the norm of all gradients, because some consist of rounding errors only
    total = sqrt(sum(sum(abs2, gradient) for (_, gradient) in expected_gradients))
    for ((name, gradient), (_, expected)) in zip(gradients, expected_gradients)
        @test norm(gradient - expected) < 1e-10norm(expected) + 1e-14total
    end
end

@testset "a frozen model has its own copy of the weights" begin
    model, x, _ = random_model(TINY, Float32)
    frozen = freeze(model, DeviceWorkspace(model, CPU))
    before = frozen(x)
    model.classifier.weight .= 0
    @test frozen(x) == before != predict(model, x; workspace=DeviceWorkspace(model, CPU))
end

@testset "a step updates parameters, slots and statistics as on the CPU: $count micro-batches" for count in (1, 2)
    train = TrainConfig(; batch_size=4, accumulate=count, nesterov=true, weight_decay=1e-3)
    model, x, labels = random_model(DROPPING, Float64)
    other = Models.model_from_state(DROPPING, Dict{String,Array}(deepcopy(get_state(model))))
    factors = rand(StableRNG(5), (0.0, 2.0), size(model.classifier.weight, 1), 4)
    masks = Dict{String,Array}("dropout" => factors)
    optimizers, workspaces = setup_optimizer.(Ref(train), (model, other)), (DeviceWorkspace(model, CPU), Workspace())
    for _ in 1:2
        losses = map((model, other), optimizers, workspaces) do model, optimizer, workspace
            first(train_step!(model, optimizer, x, labels, 1e-3; masks, workspace))
        end
        @test losses[1] ≈ losses[2] rtol = 1e-10
    end
    states = get_state.((model, other), optimizers)
    for ((name, array), (_, expected)) in zip(states...)
        @test array ≈ expected rtol = 1e-7
    end
end

@testset "fit! computes gradients on the device" begin
    rng = StableRNG(1)
    images, labels = rand(rng, UInt8, 32, 32, 3, 8), rand(rng, 0:6, 8)
    train = TrainConfig(; batch_size=4, steps=3)
    models = MobileNet(TINY; dtype=Float64), MobileNet(TINY; dtype=Float64)
    losses = fit!(models[1], images, labels, train; workspace=DeviceWorkspace(models[1], CPU))
    @test losses ≈ fit!(models[2], images, labels, train) rtol = 1e-9
end

@testset "unavailable devices, activation masks and invalid images are rejected" begin
    model, x, labels = random_model(TINY, Float64)
    rejection(name) = message(() -> DeviceWorkspace(model, name), ConfigError)
    @test rejection("tpu") == "device must be cpu or cuda. Received: \"tpu\""
    @test startswith(rejection(:cuda), "device cuda requires CUDA.jl and cuDNN.jl: add them to the project")
    @test startswith(rejection("mps"), "NNlib has no convolutions for Metal")
    masks = Dict{String,Array}("stem.act" => ones(UInt8, 32, 32, size(model.stem.conv.weight, 4), 4))
    workspace = DeviceWorkspace(model, CPU)
    text = message(() -> loss_and_grads(model, x, labels; masks, workspace), ConfigError)
    @test text == "a DeviceWorkspace supports no mask but dropout. Received: stem.act"
    @test_throws DataError predict(model, Float32.(x); workspace)
    @test_throws DataError freeze(model, workspace)(Float32.(x))
    @test repr(workspace) == "DeviceWorkspace($CPU)"
end
