using MobileNets.Training: TorchAdam, clip_factor, decay_factors, initial_slots, slot_names, smoothed, update!,
    update_rule

x, labels = example(Float64)

"Model and optimizer after `steps` steps, and the gradients of the steps."
function trained(config, steps; rate=0.1)
    model = MobileNet(TINY; dtype=Float64)
    optimizer = setup_optimizer(config, model)
    gradients = [train_step!(model, optimizer, x, labels, rate)[2] for _ in 1:steps]
    return model, optimizer, gradients
end

@testset "a step returns the results of loss_and_grads" begin
    model = MobileNet(TINY; dtype=Float64)
    expected = loss_and_grads(model, x, labels)
    @test train_step!(model, setup_optimizer(TrainConfig(), model), x, labels, 0.1) == expected
end

@testset "SGD: v = momentum * v + g; p -= rate * v" begin
    model, optimizer, (g1, g2) = trained(TrainConfig(; momentum=0.9), 2)
    p = copy(MobileNet(TINY; dtype=Float64).classifier.weight)
    v = last(g1[end - 1])
    p .-= 0.1 .* v
    v = 0.9 .* v .+ last(g2[end - 1])
    p .-= 0.1 .* v
    @test model.classifier.weight == p
    @test Dict(get_state(model, optimizer))["optimizer.momentum.classifier.weight"] == v
    @test optimizer.step[] == 2
end

@testset "SGD without momentum has no slots" begin
    model, optimizer, (g1,) = trained(TrainConfig(; momentum=0), 1)
    @test first.(get_state(model, optimizer)) == first.(get_state(model))
    expected = MobileNet(TINY; dtype=Float64).classifier.weight .- 0.1 .* last(g1[end - 1])
    @test model.classifier.weight == expected
end

@testset "Adam: Kingma & Ba, algorithm 1" begin
    model, optimizer, gradients = trained(TrainConfig(; optimizer=:adam), 3; rate=1e-3)
    p = vec(copy(MobileNet(TINY; dtype=Float64).classifier.weight))
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

const OPTIONS = Dict(
    "nesterov" => TrainConfig(; momentum=0.9, nesterov=true),
    "decay" => TrainConfig(; weight_decay=0.01),
    "average" => TrainConfig(; ema_decay=0.75),
    "decay of weights alone" => TrainConfig(; weight_decay=0.01, decay_all=false, clip_norm=0.3),
    "adamw" => TrainConfig(; optimizer=:adamw, weight_decay=0.01),
    "rmsprop" => TrainConfig(; optimizer=:rmsprop, momentum=0, alpha=0.9, clip_norm=0.3),
    "rmsprop, momentum" => TrainConfig(; optimizer=:rmsprop, alpha=0.9, weight_decay=0.01),
    "rmsprop_tf" => TrainConfig(; optimizer=:rmsprop_tf, momentum=0, eps=1e-3),
    "rmsprop_tf, momentum" =>
        TrainConfig(; optimizer=:rmsprop_tf, eps=1e-3, initial_square_avg=1, weight_decay=0.01),
)

"Parameter and slots after a step, by the formulas of docs/training.md."
function reference_step(config, p, g, slots, rate, t, scale)
    (; momentum, alpha, eps) = config
    decay = config.decay_all || ndims(p) > 1 ? config.weight_decay : 0.0
    coupled = config.optimizer != "adamw"
    g = scale .* g .+ (coupled ? decay : 0.0) .* p
    p = coupled ? p : p .- rate * decay .* p
    if config.optimizer == "sgd"
        v = momentum .* slots["momentum"] .+ g
        return p .- rate .* (config.nesterov ? g .+ momentum .* v : v), Dict("momentum" => v)
    elseif config.optimizer == "adamw"
        m = 0.9 .* slots["exp_avg"] .+ 0.1 .* g
        v = 0.999 .* slots["exp_avg_sq"] .+ 0.001 .* g .^ 2
        root = sqrt.(v ./ (1 - 0.999^t)) .+ eps
        return p .- rate .* (m ./ (1 - 0.9^t)) ./ root, Dict("exp_avg" => m, "exp_avg_sq" => v)
    end
    s = alpha .* slots["square_avg"] .+ (1 - alpha) .* g .^ 2
    inside = config.optimizer == "rmsprop_tf"
    change = inside ? rate .* g ./ sqrt.(s .+ eps) : g ./ (sqrt.(s) .+ eps)
    v = momentum .* get(slots, "momentum", 0.0) .+ change
    return p .- (inside ? 1 : rate) .* v, Dict("square_avg" => s, "momentum" => v)
end

@testset "three steps are those of the formulas: $name" for (name, config) in OPTIONS
    model, optimizer, gradients = trained(config, 3; rate=1e-3)
    names = slot_names(config)
    for (parameter, k) in ("stem.norm.bias" => 3, "classifier.weight" => length(gradients[1]) - 1)
        p = Dict(get_state(MobileNet(TINY; dtype=Float64)))[parameter]
        start(slot) = fill(slot == "square_avg" ? config.initial_square_avg : 0.0, size(p))
        slots, ema = Dict(slot => start(slot) for slot in names), p
        for (t, step) in enumerate(gradients)
            total = sqrt(sum(sum(abs2, g) for (_, g) in step))
            scale = config.clip_norm == 0 ? 1.0 : min(1.0, config.clip_norm / (total + 1e-6))
            @test config.clip_norm == 0 || scale < 1 # otherwise clipping would not be tested
            p, slots = reference_step(config, p, last(step[k]), slots, 1e-3, t, scale)
            ema = ema .+ (1 - config.ema_decay) .* (p .- ema)
            slots["ema"] = ema
        end
        state = Dict(get_state(model, optimizer))
        @test state[parameter] ≈ p rtol = 1e-12
        for slot in names
            @test state["optimizer.$slot.$parameter"] ≈ slots[slot] rtol = 1e-12
        end
    end
end

@testset "a step of any optimizer allocates no arrays: $optimizer" for optimizer in Configs.OPTIMIZERS
    config = TrainConfig(; optimizer, weight_decay=1e-4, clip_norm=1, ema_decay=0.99)
    model, workspace = MobileNet(TINY), Workspace()
    small, classes = example(Float32; size=(16, 16), batch=8)
    targets = smoothed((0:6) .== classes', 0.1, Float32)
    state = setup_optimizer(config, model)
    step() = train_step!(model, state, small, targets, 1e-3; workspace)
    step()
    step()
    @test (@allocated step()) < 2^20
end

@testset "averaged replaces the parameters by their averages" begin
    model, optimizer, _ = trained(TrainConfig(; ema_decay=0.5), 2)
    state = Dict(get_state(model, optimizer))
    averages = averaged(state)
    @test keys(averages) == keys(Dict(get_state(model)))
    @test averages["stem.conv.weight"] === state["optimizer.ema.stem.conv.weight"]
    @test averages["stem.norm.running_mean"] === state["stem.norm.running_mean"]
    set_state!(model, averages)
    @test model.stem.conv.weight == averages["stem.conv.weight"]
    @test endswith(message(() -> averaged(get_state(model)), ConfigError), "Received: moments String[]")
end

@testset "the norm of all gradients is summed in Float64" begin
    gradients = Array[fill(1.0f-20, 3), fill(3.0f20, 2, 2), fill(2.0f0, 1)]
    @test clip_factor(gradients, 1e20) === min(1.0, 1e20 / (sqrt(4 * Float64(3.0f20)^2) + 1e-6))
    @test clip_factor(gradients, 1e30) === 1.0 === clip_factor(gradients, 0.0)
    @test isnan(clip_factor(Array[[NaN32]], 1.0))
end

@testset "norms and biases are decayed only with decay_all" begin
    config(; options...) = TrainConfig(; weight_decay=0.5, options...)
    expected(gradient_scale, l2, parameter_scale) = (; gradient_scale, l2, parameter_scale)
    @test decay_factors(config(), 0.1, 1.0, ones(2)) == expected(1.0, 0.5, 1.0)
    @test decay_factors(config(; decay_all=false), 0.1, 1.0, ones(2)) == expected(1.0, 0.0, 1.0)
    @test decay_factors(config(; decay_all=false), 0.1, 1.0, ones(2, 1)) == expected(1.0, 0.5, 1.0)
    @test decay_factors(config(; optimizer=:adamw), 0.1, 0.2, ones(2)) == expected(0.2, 0.0, 0.95)
end

@testset "in Float32 the scalars are rounded once, not computed in Float32" begin
    p, g = zeros(Float32, 1), ones(Float32, 1)
    rule = TorchAdam(1e-3, 0.9, 0.999, 1e-8, 1)
    state = initial_slots(rule, p)
    update!(rule, state, p, g)
    @test state.exp_avg_sq[1] === Float32(1 - 0.999) !== 1 - 0.999f0
end

@testset "threads do not change the bits of an update: $optimizer" for optimizer in Configs.OPTIMIZERS
    rng, rule = StableRNG(3), update_rule(TrainConfig(; optimizer), 0.1, 7)
    factors = (gradient_scale=0.7, l2=0.01, parameter_scale=0.99)
    p, g = randn(rng, Float32, 100_003), randn(rng, Float32, 100_003)
    slots = map(zeros -> zeros .+ rand(rng, Float32, length(p)), initial_slots(rule, p))
    expected, state = copy(p), map(copy, slots)
    for k in eachindex(p)
        single = map(slot -> view(slot, k:k)[:], state)
        element = expected[k:k]
        update!(rule, single, element, g[k:k], factors)
        expected[k] = only(element)
        foreach((slot, value) -> slot[k] = only(value), state, single)
    end
    update!(rule, slots, p, g, factors)
    @test p == expected && slots == state
end

@testset "running statistics are updated by the batch's mean and unbiased variance" begin
    model = MobileNet(TINY; dtype=Float64)
    maps = Dict(activations(model, x; train=true))["blocks.4.depthwise.conv"]
    train_step!(model, setup_optimizer(TrainConfig(), model), x, labels, 0.1)
    count = length(maps) ÷ size(maps, 3)
    mean = vec(sum(maps; dims=(1, 2, 4))) ./ count
    centred = maps .- reshape(mean, 1, 1, :, 1)
    var = vec(sum(abs2, centred; dims=(1, 2, 4))) ./ (count - 1)
    norm = model.blocks[5].depthwise.norm
    @test norm.running_mean ≈ 0.1mean
    @test norm.running_var ≈ 0.9 .+ 0.1var
end

@testset "a copied state continues the same run: $optimizer" for optimizer in Configs.OPTIMIZERS
    config = TrainConfig(; optimizer, weight_decay=1e-3, ema_decay=0.9)
    whole, whole_optimizer, _ = trained(config, 3)
    half, half_optimizer, _ = trained(config, 2)
    other = MobileNet(TINY; seed=9, dtype=Float64)
    optimizer_state = setup_optimizer(config, other)
    set_state!(other, optimizer_state, get_state(half, half_optimizer))
    train_step!(other, optimizer_state, x, labels, 0.1)
    @test get_state(other, optimizer_state) == get_state(whole, whole_optimizer)
end

@testset "an invalid rate is rejected, and the model does not change" begin
    model = MobileNet(TINY; dtype=Float64)
    optimizer = setup_optimizer(TrainConfig(), model)
    for rate in (-0.1, NaN, Inf, "0.1")
        @test_throws ConfigError train_step!(model, optimizer, x, labels, rate)
    end
    @test get_state(model) == get_state(MobileNet(TINY; dtype=Float64)) && optimizer.step[] == 0
end
