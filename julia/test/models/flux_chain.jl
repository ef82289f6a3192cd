using MobileNets: flux_chain, forward, from_flux_state, load_flux!
using MobileNets.Configs: feature_channels
using Flux: Flux


"A model with random norms and running statistics, so that exchanged arrays are detected."
function random_model(T; config=TINY, seed=3)
    model, rng = MobileNet(config; dtype=T), StableRNG(seed)
    for (name, array) in get_state(model)
        endswith(name, "norm.weight") && (array .= 1 .+ 0.3 .* randn(rng, size(array)))
        endswith(name, "bias") && (array .= 0.3 .* randn(rng, size(array)))
        endswith(name, "running_mean") && (array .= 0.3 .* randn(rng, size(array)))
        endswith(name, "running_var") && (array .= 0.5 .+ rand(rng, size(array)...))
    end
    return model
end

cases = [
    (Float64, TINY),
    (Float32, TINY),
    (Float64, MobileNetConfig(;
        width_mult=0.1, num_classes=7, activation=:relu, norm_eps=1e-3, dropout=0.2, padding=:keras,
    )),
    (Float64, MobileNetConfig(; family=:v2, width_mult=0.1, num_classes=7, padding=:keras)),
    (Float64, MobileNetConfig(; family=:v1_bottleneck, num_classes=7, softmax=true)),
    (Float64, MobileNetConfig(; width_mult=0.1, num_classes=102)), # as many classes as features
]

@testset "a weight of the classifier that fits both ways is among the cases" begin
    @test any(config -> config.num_classes == feature_channels(config), last.(cases))
end

@testset "the stock chain has the outputs of the model, its state the weights: $(config.family) $T" for
    (T, config) in cases

    model = random_model(T; config)
    chain = flux_chain(model)
    x, _ = example(T; config, size=(33, 40))
    bound = T == Float64 ? 1e-13 : 1e-4
    @test relative_error(chain(x), predict(model, x)) < bound
    @test from_flux_state(config, Flux.state(chain)) == Dict(get_state(model))
    @test eltype(chain(x)) == T
    chain[1].weight .= 0
    @test !iszero(model.stem.conv.weight) # copies
end

@testset "a chain with another nesting and biases is read and written" begin
    model = random_model(Float64)
    chain, x = flux_chain(model), first(example(Float64))
    biased = map(Any[chain.layers...]) do layer
        layer isa Flux.Conv || return layer
        bias = randn(StableRNG(1), size(layer.weight, 4))
        return Flux.Conv(
            Flux.identity, layer.weight, bias, layer.stride, layer.pad, layer.dilation, layer.groups
        )
    end
    nested = Flux.Chain(
        stem=Flux.Chain(biased[1:2]...), middle=[biased[3:10]..., Flux.Chain(biased[11:54])],
        rest=Flux.Chain(biased[55:end]...),
    )
    state = from_flux_state(TINY, Flux.state(nested.layers))
    other = MobileNet(TINY; dtype=Float64)
    set_state!(other, state)
    @test relative_error(predict(other, x), Flux.Chain(biased...)(x)) < 1e-13
    flat = Flux.Chain(biased...)
    Flux.trainmode!(flat)
    @test relative_error(forward(other, x; train=true), flat(x)) < 1e-11
    Flux.testmode!(flat)
    load_flux!(flat, model)
    @test relative_error(flat(x), predict(model, x)) < 1e-13
    @test iszero(flat[1].bias)
end

@testset "arrays that a stock layer does not have are those of the identity" begin
    chain = flux_chain(random_model(Float32))
    state = Any[Flux.state(chain).layers...]
    state[2] = (; state[2]..., β=nothing, γ=nothing)
    state[end] = (; state[end]..., bias=false)
    tensors = from_flux_state(TINY, (; layers=state))
    @test all(isone, tensors["stem.norm.weight"]) && iszero(tensors["stem.norm.bias"])
    @test iszero(tensors["classifier.bias"])
end

@testset "the state of another model is rejected" begin
    chain = flux_chain(MobileNet(TINY))
    state = Any[Flux.state(chain).layers...]
    rejection(state) = message(() -> from_flux_state(TINY, state; source="f"), WeightsError)
    with(k; fields...) = [state[1:(k - 1)]; (; state[k]..., fields...); state[(k + 1):end]]
    @test occursin("has 27 Conv. Received: 26", rejection(state[3:end]))
    extra = "27 BatchNorm. Received: 28, of them left over state[58]"
    @test occursin(extra, rejection([state; state[2]]))
    @test occursin("1 Dense. Received: 0", rejection(state[1:(end - 1)]))
    @test occursin("Left over: state[1].scale", rejection([(scale=ones(3),); state]))
    @test rejection([state[3:4]; state[1:2]; state[5:end]]) ==
          "f: state[1].weight must have shape (3, 3, 3, 3). Received: (3, 3, 1, 3)"
    @test occursin("state[2].μ must have shape (3,). Received: nothing", rejection(with(2; μ=nothing)))
    @test occursin("Received: Dict", rejection(Dict(:layers => state)))
    @test occursin("stem.norm.running_mean must be Float32", rejection(with(2; μ=zeros(3))))
    @test occursin("must not be negative", rejection(with(2; σ²=fill(-1.0f0, 3))))
    before = copy(chain[1].weight)
    wider = MobileNet(MobileNetConfig(; width_mult=0.1, resolution=32, num_classes=8); seed=1)
    @test occursin(
        "must have shape (8, 102). Received: (7, 102)",
        message(() -> load_flux!(chain, wider), WeightsError),
    )
    @test chain[1].weight == before
end
