using MobileNets: TorchAdam, moments, update!

x, labels = example(Float64)

"A training run of `steps`, and the gradients it saw."
function trained(config, steps; rate=0.1)
    model = build(TINY; dtype=Float64)
    optimizer = setup(config, model)
    seen = [train_step!(model, optimizer, x, labels, rate)[2] for _ in 1:steps]
    return model, optimizer, seen
end

@testset "a step gives what loss_and_grads gives" begin
    model = build(TINY; dtype=Float64)
    wanted = loss_and_grads(model, x, labels)
    @test train_step!(model, setup(TrainConfig(), model), x, labels, 0.1) == wanted
end

@testset "SGD: v = momentum * v + g; p -= rate * v" begin
    model, optimizer, (g1, g2) = trained(TrainConfig(; momentum=0.9), 2)
    p = copy(build(TINY; dtype=Float64).classifier.weight)
    v = last(g1[end - 1])
    p .-= 0.1 .* v
    v = 0.9 .* v .+ last(g2[end - 1])
    p .-= 0.1 .* v
    @test model.classifier.weight == p
    @test Dict(get_state(model, optimizer))["optimizer.momentum.classifier.weight"] == v
    @test optimizer.step[] == 2
end

@testset "SGD without momentum keeps no moments" begin
    model, optimizer, (g1,) = trained(TrainConfig(; momentum=0), 1)
    @test first.(get_state(model, optimizer)) == first.(get_state(model))
    wanted = build(TINY; dtype=Float64).classifier.weight .- 0.1 .* last(g1[end - 1])
    @test model.classifier.weight == wanted
end

@testset "Adam: Kingma & Ba, algorithm 1" begin
    model, optimizer, gradients = trained(TrainConfig(; optimizer="adam"), 3; rate=1e-3)
    p = vec(copy(build(TINY; dtype=Float64).classifier.weight))
    m, v = zero(p), zero(p)
    for (t, step) in enumerate(gradients)
        g = vec(last(step[end - 1]))
        m = 0.9m + 0.1g
        v = 0.999v + 0.001g .^ 2
        p -= 1e-3 * (m / (1 - 0.9^t)) ./ (sqrt.(v / (1 - 0.999^t)) .+ 1e-8)
    end
    @test vec(model.classifier.weight) ≈ p rtol = 1e-14
    state = Dict(get_state(model, optimizer))
    @test vec(state["optimizer.exp_avg.classifier.weight"]) ≈ m rtol = 1e-12
    @test vec(state["optimizer.exp_avg_sq.classifier.weight"]) ≈ v rtol = 1e-12
    @test state["optimizer.step"][] == 3
end

@testset "in Float32 the scalars are rounded once, not computed in Float32" begin
    p, g = zeros(Float32, 1), ones(Float32, 1)
    rule = TorchAdam(1e-3, 0.9, 0.999, 1e-8, 1)
    state = moments(rule, p)
    update!(rule, state, p, g)
    @test state.exp_avg_sq[1] === Float32(1 - 0.999) !== 1 - 0.999f0
end

@testset "threads change no bit of an update: $optimizer" for optimizer in ("sgd", "adam")
    rng, now = StableRNG(3), MobileNets.rule(TrainConfig(; optimizer), 0.1, 7)
    p, g = randn(rng, Float32, 100_003), randn(rng, Float32, 100_003)
    kept = map(zero_moments -> zero_moments .+ rand(rng, Float32, length(p)), moments(now, p))
    one, state = copy(p), map(copy, kept)
    for k in eachindex(p)
        single = map(moment -> view(moment, k:k)[:], state)
        element = one[k:k]
        update!(now, single, element, g[k:k])
        one[k] = only(element)
        foreach((moment, value) -> moment[k] = only(value), state, single)
    end
    update!(now, kept, p, g)
    @test p == one && kept == state
end

@testset "running statistics move by the batch's mean and unbiased variance" begin
    model = build(TINY; dtype=Float64)
    maps = Dict(activations(model, x; train=true))["blocks.4.depthwise.conv"]
    train_step!(model, setup(TrainConfig(), model), x, labels, 0.1)
    count = length(maps) ÷ size(maps, 3)
    mean = vec(sum(maps; dims=(1, 2, 4))) ./ count
    centred = maps .- reshape(mean, 1, 1, :, 1)
    var = vec(sum(abs2, centred; dims=(1, 2, 4))) ./ (count - 1)
    norm = model.blocks[5].depthwise.norm
    @test norm.running_mean ≈ 0.1mean
    @test norm.running_var ≈ 0.9 .+ 0.1var
end

@testset "state carried over continues the same run: $optimizer" for optimizer in ("sgd", "adam")
    config = TrainConfig(; optimizer)
    whole, tree, _ = trained(config, 3)
    half, halfway, _ = trained(config, 2)
    other = build(TINY; seed=9, dtype=Float64)
    moments = setup(config, other)
    set_state!(other, moments, get_state(half, halfway))
    train_step!(other, moments, x, labels, 0.1)
    @test get_state(other, moments) == get_state(whole, tree)
end

@testset "a rate that is none is refused, and the model stays" begin
    model = build(TINY; dtype=Float64)
    optimizer = setup(TrainConfig(), model)
    for rate in (-0.1, NaN, Inf, "0.1")
        @test_throws ConfigError train_step!(model, optimizer, x, labels, rate)
    end
    @test get_state(model) == get_state(build(TINY; dtype=Float64)) && optimizer.step[] == 0
end
