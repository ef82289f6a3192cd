rng = StableRNG(1)
images, labels = rand(rng, UInt8, 16, 16, 3, 24), rand(rng, 0:6, 24)
config = TrainConfig(; optimizer="adam", rate=3e-3, batch_size=8, steps=60, crop_padding=0, flip=false)

@testset "the loss falls, and the same seed gives the same run" begin
    calls = Int[]
    model = build(TINY; dtype=Float64) # in Float32 the rounding decides how far
    losses = fit!(model, images, labels, config; callback=(step, _) -> push!(calls, step))
    @test losses isa Vector{Float64} && calls == 0:59
    @test sum(losses[56:60]) < 0.6sum(losses[1:5])
    again = build(TINY; dtype=Float64)
    @test fit!(again, images, labels, config) == losses
    @test get_state(again) == get_state(model)
end

@testset "a step is the plan's batch through train_step!" begin
    model, other = build(TINY; dtype=Float64), build(TINY; dtype=Float64)
    one = TrainConfig(; batch_size=8, steps=1)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    losses = fit!(model, images, labels, one; mean, std)
    chosen = batch(BatchPlan(; seed=0, num_images=24, batch_size=8), 0)
    x = normalise(crop_and_flip(images, chosen), mean, std, Float64)
    loss, _ = train_step!(other, setup(one, other), x, labels[chosen.indices .+ 1], 0.1)
    @test losses == [loss] && get_state(model) == get_state(other)
end

@testset "rates are the schedule's, and labels are smoothed as in Python" begin
    model, other = build(TINY), build(TINY)
    three = TrainConfig(;
        batch_size=8, steps=3, schedule="cosine", warmup_steps=1, label_smoothing=0.1, rate=0.05
    )
    losses = fit!(model, images, labels, three)
    optimizer, plan = setup(three, other), BatchPlan(; seed=0, num_images=24, batch_size=8)
    wanted = map(0:2) do step
        chosen = batch(plan, step)
        x = normalise(
            crop_and_flip(images, chosen), MobileNets.CIFAR100_MEAN, MobileNets.CIFAR100_STD
        )
        y = fill(Float32(0.1 / 7), 7, 8)
        for (column, index) in enumerate(chosen.indices)
            y[labels[index + 1] + 1, column] = Float32(0.9 + 0.1 / 7)
        end
        first(train_step!(other, optimizer, x, y, rate_at(three, step)))
    end
    @test losses == wanted && get_state(model) == get_state(other)
end

@testset "mixed labels are smoothed too" begin
    model, other = build(TINY), build(TINY)
    one = TrainConfig(; batch_size=8, steps=1, mixup=1, label_smoothing=0.1)
    losses = fit!(model, images, labels, one)
    chosen = batch(BatchPlan(; seed=0, num_images=24, batch_size=8, mixup=1), 0)
    x = normalise(augment(images, chosen), MobileNets.CIFAR100_MEAN, MobileNets.CIFAR100_STD)
    y = Float32.(0.9 .* MobileNets.targets(labels, chosen, 7, Float64) .+ 0.1 / 7)
    @test y != MobileNets.targets(labels, chosen, 7)
    loss, _ = train_step!(other, setup(one, other), x, y, 0.1)
    @test losses == [loss] && get_state(model) == get_state(other)
end

@testset "a batch larger than the data and labels out of range are refused" begin
    model = build(TINY)
    @test_throws ConfigError fit!(model, images, labels, TrainConfig(; batch_size=25))
    @test_throws DataError fit!(model, images, fill(7, 24), config)
end

@testset "dropout draws the factors Python draws" begin
    model = build(MobileNetConfig(; width_mult=1 / 32, resolution=32, num_classes=7, dropout=0.25))
    config = TrainConfig(; batch_size=4, seed=5)
    factors = MobileNets.dropout_masks(model, config, 3)["dropout"]
    @test size(factors) == (32, 4) && eltype(factors) == Float32
    words = MobileNets.raw_words(5, MobileNets.STREAM.MASK, 0, 3, 128)
    @test vec(factors) == [word >> 62 == 0 ? 0.0f0 : Float32(1 / 0.75) for word in words]
    @test isnothing(MobileNets.dropout_masks(build(TINY), config, 3))
    losses = fit!(model, images, labels, TrainConfig(; batch_size=8, steps=2))
    @test all(isfinite, losses)
end

@testset "a run that is taken on gives the bits of one that was left alone" begin
    whole, first_half, second_half = build(TINY), build(TINY), build(TINY)
    long = TrainConfig(; optimizer="adam", rate=1e-3, batch_size=8, steps=6, schedule="cosine")
    optimizer, other = setup(long, first_half), setup(long, second_half)
    losses = fit!(whole, images, labels, long)
    kept = Float64[]
    try
        fit!(first_half, images, labels, long; optimizer, callback=(step, loss) -> begin
            push!(kept, loss)
            step == 3 && throw(InterruptException())
        end)
    catch error
        error isa InterruptException || rethrow()
    end
    set_state!(second_half, other, get_state(first_half, optimizer))
    append!(kept, fit!(second_half, images, labels, long; optimizer=other, start=4))
    @test kept == losses
    @test get_state(second_half) == get_state(whole)
end
