using MobileNets: TorchAdam, before, clip_factor, moments, update!

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

const OPTIONS = Dict(
    "nesterov" => TrainConfig(; momentum=0.9, nesterov=true),
    "decay" => TrainConfig(; weight_decay=0.01),
    "average" => TrainConfig(; ema_decay=0.75),
    "decay of weights alone" => TrainConfig(; weight_decay=0.01, decay_all=false, clip_norm=0.3),
    "adamw" => TrainConfig(; optimizer="adamw", weight_decay=0.01),
    "rmsprop" => TrainConfig(; optimizer="rmsprop", momentum=0, alpha=0.9, clip_norm=0.3),
    "rmsprop, momentum" => TrainConfig(; optimizer="rmsprop", alpha=0.9, weight_decay=0.01),
    "rmsprop_tf" => TrainConfig(; optimizer="rmsprop_tf", momentum=0, eps=1e-3),
    "rmsprop_tf, momentum" =>
        TrainConfig(; optimizer="rmsprop_tf", eps=1e-3, initial_square_avg=1, weight_decay=0.01),
)

"Parameter and moments after a step, from the formulas of docs/training.md."
function by_formula(config, p, g, kept, rate, t, scale)
    (; momentum, alpha, eps) = config
    decay = config.decay_all || ndims(p) > 1 ? config.weight_decay : 0.0
    coupled = config.optimizer != "adamw"
    g = scale .* g .+ (coupled ? decay : 0.0) .* p
    p = coupled ? p : p .- rate * decay .* p
    if config.optimizer == "sgd"
        v = momentum .* kept["momentum"] .+ g
        return p .- rate .* (config.nesterov ? g .+ momentum .* v : v), Dict("momentum" => v)
    elseif config.optimizer == "adamw"
        m = 0.9 .* kept["exp_avg"] .+ 0.1 .* g
        v = 0.999 .* kept["exp_avg_sq"] .+ 0.001 .* g .^ 2
        root = sqrt.(v ./ (1 - 0.999^t)) .+ eps
        return p .- rate .* (m ./ (1 - 0.9^t)) ./ root, Dict("exp_avg" => m, "exp_avg_sq" => v)
    end
    s = alpha .* kept["square_avg"] .+ (1 - alpha) .* g .^ 2
    inside = config.optimizer == "rmsprop_tf"
    pull = inside ? rate .* g ./ sqrt.(s .+ eps) : g ./ (sqrt.(s) .+ eps)
    v = momentum .* get(kept, "momentum", 0.0) .+ pull
    return p .- (inside ? 1 : rate) .* v, Dict("square_avg" => s, "momentum" => v)
end

@testset "three steps are the formulas': $name" for (name, config) in OPTIONS
    model, optimizer, gradients = trained(config, 3; rate=1e-3)
    slots = MobileNets.slots(config)
    for (name, k) in ("stem.norm.bias" => 3, "classifier.weight" => length(gradients[1]) - 1)
        p = Dict(get_state(build(TINY; dtype=Float64)))[name]
        start(slot) = fill(slot == "square_avg" ? config.initial_square_avg : 0.0, size(p))
        kept, ema = Dict(slot => start(slot) for slot in slots), p
        for (t, step) in enumerate(gradients)
            total = sqrt(sum(sum(abs2, g) for (_, g) in step))
            scale = config.clip_norm == 0 ? 1.0 : min(1.0, config.clip_norm / (total + 1e-6))
            @test config.clip_norm == 0 || scale < 1 # or it would not be tested
            p, kept = by_formula(config, p, last(step[k]), kept, 1e-3, t, scale)
            ema = ema .+ (1 - config.ema_decay) .* (p .- ema)
            kept["ema"] = ema
        end
        state = Dict(get_state(model, optimizer))
        @test state[name] ≈ p rtol = 1e-12
        for slot in slots
            @test state["optimizer.$slot.$name"] ≈ kept[slot] rtol = 1e-12
        end
    end
end

@testset "a step of any optimizer takes no new arrays: $optimizer" for optimizer in MobileNets.OPTIMIZERS
    config = TrainConfig(; optimizer, weight_decay=1e-4, clip_norm=1, ema_decay=0.99)
    model, workspace = build(TINY), Workspace()
    small, given = example(Float32; size=(16, 16), batch=8)
    targets = MobileNets.smoothed((0:6) .== given', 0.1, Float32)
    tree = setup(config, model)
    step() = train_step!(model, tree, small, targets, 1e-3; workspace)
    step()
    step()
    @test (@allocated step()) < 2^20
end

"Images, labels of either kind and dropout factors of a batch of 6, and its parts `count`."
function batch_in_parts(count)
    six, classes = example(Float64; size=(16, 16), batch=6)
    targets = MobileNets.smoothed((0:6) .== classes', 0.1, Float64)
    factors = Float64.(reshape(1:(6 * size(build(TINY).classifier.weight, 1)), :, 6) .% 3)
    ranges = collect(Iterators.partition(1:6, 6 ÷ count))
    cut = [(six[:, :, :, r], targets[:, r], Dict{String,Array}("dropout" => factors[:, r])) for r in ranges]
    return six, targets, Dict{String,Array}("dropout" => factors), cut
end

norms(model) = [unit.norm for unit in MobileNets.units(model)]

@testset "a batch in parts: means of their gradients, and statistics of each" for count in (2, 3)
    six, targets, masks, cut = batch_in_parts(count)
    model, other = build(TINY; dtype=Float64), build(TINY; dtype=Float64)
    config = TrainConfig(; batch_size=6, accumulate=count, clip_norm=0.1, weight_decay=0.01)
    optimizer, workspace = setup(config, model), Workspace()
    one = setup(TrainConfig(; momentum=0), other)
    for _ in 1:2
        set_state!(other, get_state(model))
        found = [loss_and_grads(other, x, y; masks) for (x, y, masks) in cut]
        for (x, y, masks) in cut
            train_step!(other, one, x, y, 0.0; masks)
        end
        kept = deepcopy(optimizer)
        start = deepcopy(model)
        loss, gradients = train_step!(model, optimizer, six, targets, 0.1; masks, workspace)
        @test loss ≈ sum(first, found) / count rtol = 1e-14
        for (k, (name, gradient)) in enumerate(gradients)
            @test gradient ≈ sum(last(part)[k][2] for part in found) ./ count rtol = 1e-12
        end
        @test [n.running_var for n in norms(model)] == [n.running_var for n in norms(other)]
        @test [n.running_mean for n in norms(model)] == [n.running_mean for n in norms(other)]
        scale = clip_factor(last.(gradients), 0.1)
        update!(
            MobileNets.rule(config, 0.1, 1), kept.moments[1], start.stem.conv.weight,
            last(gradients[1]), before(config, 0.1, scale, start.stem.conv.weight),
        )
        @test model.stem.conv.weight == start.stem.conv.weight
    end
    @test optimizer.step[] == 2
end

@testset "a batch that does not go into equal parts is refused, and the model stays" begin
    model = build(TINY; dtype=Float64)
    optimizer = setup(TrainConfig(; accumulate=4), model)
    six, targets, masks, _ = batch_in_parts(2)
    text = "images must go into 4 equal parts, the optimizer's accumulate times the processes. Received: 6 images"
    @test message(() -> train_step!(model, optimizer, six, targets, 0.1), DataError) == text
    wrong = copy(targets)
    wrong[1, 6] = 2
    halves = setup(TrainConfig(; accumulate=2), model)
    @test_throws DataError train_step!(model, halves, six, wrong, 0.1; masks)
    @test get_state(model) == get_state(build(TINY; dtype=Float64)) && optimizer.step[] == 0
end

@testset "a step in parts needs the memory of a part, and takes no new arrays" begin
    small, given = example(Float32; size=(32, 32), batch=32)
    function kept(accumulate)
        model, workspace = build(TINY), Workspace()
        optimizer = setup(TrainConfig(; batch_size=32, accumulate), model)
        step() = train_step!(model, optimizer, small, given, 1e-3; workspace)
        step()
        step()
        @test (@allocated step()) < accumulate * 2^20
        return MobileNets.bytes(workspace)
    end
    @test kept(4) < 0.4kept(1)
end

@testset "averages take the place of parameters" begin
    model, optimizer, _ = trained(TrainConfig(; ema_decay=0.5), 2)
    state = Dict(get_state(model, optimizer))
    found = averaged(state)
    @test keys(found) == keys(Dict(get_state(model)))
    @test found["stem.conv.weight"] === state["optimizer.ema.stem.conv.weight"]
    @test found["stem.norm.running_mean"] === state["stem.norm.running_mean"]
    set_state!(model, found)
    @test model.stem.conv.weight == found["stem.conv.weight"]
    @test endswith(message(() -> averaged(get_state(model)), ConfigError), "Received: moments String[]")
end

@testset "the norm of all gradients is summed in Float64" begin
    gradients = Array[fill(1.0f-20, 3), fill(3.0f20, 2, 2), fill(2.0f0, 1)]
    @test clip_factor(gradients, 1e20) === min(1.0, 1e20 / (sqrt(4 * Float64(3.0f20)^2) + 1e-6))
    @test clip_factor(gradients, 1e30) === 1.0 === clip_factor(gradients, 0.0)
    @test isnan(clip_factor(Array[[NaN32]], 1.0))
end

@testset "norms and biases are decayed only where all are" begin
    config(; options...) = TrainConfig(; weight_decay=0.5, options...)
    @test before(config(), 0.1, 1.0, ones(2)) == (scale=1.0, pull=0.5, stay=1.0)
    @test before(config(; decay_all=false), 0.1, 1.0, ones(2)) == (scale=1.0, pull=0.0, stay=1.0)
    @test before(config(; decay_all=false), 0.1, 1.0, ones(2, 1)) == (scale=1.0, pull=0.5, stay=1.0)
    @test before(config(; optimizer="adamw"), 0.1, 0.2, ones(2)) == (scale=0.2, pull=0.0, stay=0.95)
end

@testset "in Float32 the scalars are rounded once, not computed in Float32" begin
    p, g = zeros(Float32, 1), ones(Float32, 1)
    rule = TorchAdam(1e-3, 0.9, 0.999, 1e-8, 1)
    state = moments(rule, p)
    update!(rule, state, p, g)
    @test state.exp_avg_sq[1] === Float32(1 - 0.999) !== 1 - 0.999f0
end

@testset "threads change no bit of an update: $optimizer" for optimizer in MobileNets.OPTIMIZERS
    rng, now = StableRNG(3), MobileNets.rule(TrainConfig(; optimizer), 0.1, 7)
    p, g = randn(rng, Float32, 100_003), randn(rng, Float32, 100_003)
    kept = map(zero_moments -> zero_moments .+ rand(rng, Float32, length(p)), moments(now, p))
    one, state = copy(p), map(copy, kept)
    for k in eachindex(p)
        single = map(moment -> view(moment, k:k)[:], state)
        element = one[k:k]
        update!(now, single, element, g[k:k], (scale=0.7, pull=0.01, stay=0.99))
        one[k] = only(element)
        foreach((moment, value) -> moment[k] = only(value), state, single)
    end
    update!(now, kept, p, g, (scale=0.7, pull=0.01, stay=0.99))
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

@testset "state carried over continues the same run: $optimizer" for optimizer in MobileNets.OPTIMIZERS
    config = TrainConfig(; optimizer, weight_decay=1e-3, ema_decay=0.9)
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
