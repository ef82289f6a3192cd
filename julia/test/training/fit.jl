rng = StableRNG(1)
images, labels = rand(rng, UInt8, 16, 16, 3, 24), rand(rng, 0:6, 24)
config = TrainConfig(; optimizer=:adam, rate=3e-3, batch_size=8, steps=60, crop_padding=0, flip=false)

@testset "the loss decreases, and the same seed gives the same run" begin
    calls = Int[]
    model = MobileNet(TINY; dtype=Float64) # in Float32 rounding decides by how much
    losses = fit!(model, images, labels, config; callback=(step, _) -> push!(calls, step))
    @test losses isa Vector{Float64} && calls == 0:59
    @test sum(losses[56:60]) < 0.6sum(losses[1:5])
    again = MobileNet(TINY; dtype=Float64)
    @test fit!(again, images, labels, config) == losses
    @test get_state(again) == get_state(model)
end

@testset "a step is train_step! with the batch of the plan" begin
    model, other = MobileNet(TINY; dtype=Float64), MobileNet(TINY; dtype=Float64)
    single = TrainConfig(; batch_size=8, steps=1)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    losses = fit!(model, images, labels, single; mean, std)
    batch = batch_spec(BatchPlan(; seed=0, num_images=24, batch_size=8), 0)
    x = normalise_images(crop_and_flip(images, batch), mean, std, Float64)
    loss, _ = train_step!(other, setup_optimizer(single, other), x, labels[batch.indices .+ 1], 0.1)
    @test losses == [loss] && get_state(model) == get_state(other)
end

@testset "rates are those of the schedule, and labels are smoothed" begin
    model, other = MobileNet(TINY), MobileNet(TINY)
    three = TrainConfig(;
        batch_size=8, steps=3, schedule=:cosine, warmup_steps=1, label_smoothing=0.1, rate=0.05
    )
    losses = fit!(model, images, labels, three)
    optimizer, plan = setup_optimizer(three, other), BatchPlan(; seed=0, num_images=24, batch_size=8)
    expected = map(0:2) do step
        batch = batch_spec(plan, step)
        x = normalise_images(
            crop_and_flip(images, batch), Data.CIFAR100_MEAN, Data.CIFAR100_STD
        )
        y = fill(Float32(0.1 / 7), 7, 8)
        for (column, index) in enumerate(batch.indices)
            y[labels[index + 1] + 1, column] = Float32(0.9 + 0.1 / 7)
        end
        first(train_step!(other, optimizer, x, y, rate_at(three, step)))
    end
    @test losses == expected && get_state(model) == get_state(other)
end

@testset "labels of mixup are smoothed too" begin
    model, other = MobileNet(TINY), MobileNet(TINY)
    single = TrainConfig(; batch_size=8, steps=1, mixup=1, label_smoothing=0.1)
    losses = fit!(model, images, labels, single)
    batch = batch_spec(BatchPlan(; seed=0, num_images=24, batch_size=8, mixup=1), 0)
    x = normalise_images(augment(images, batch), Data.CIFAR100_MEAN, Data.CIFAR100_STD)
    y = Float32.(0.9 .* MobileNets.targets(labels, batch, 7, Float64) .+ 0.1 / 7)
    @test y != MobileNets.targets(labels, batch, 7)
    loss, _ = train_step!(other, setup_optimizer(single, other), x, y, 0.1)
    @test losses == [loss] && get_state(model) == get_state(other)
end

@testset "a batch larger than the data set and labels out of range are rejected" begin
    model = MobileNet(TINY)
    @test_throws ConfigError fit!(model, images, labels, TrainConfig(; batch_size=25))
    @test_throws DataError fit!(model, images, fill(7, 24), config)
end

@testset "dropout factors are the words of the seed" begin
    model = MobileNet(MobileNetConfig(; width_mult=1 / 32, resolution=32, num_classes=7, dropout=0.25))
    config = TrainConfig(; batch_size=4, seed=5)
    factors = Training.dropout_masks(model, config, 3)["dropout"]
    @test size(factors) == (32, 4) && eltype(factors) == Float32
    words = Philox.raw_words(5, Philox.STREAM.MASK, 0, 3, 128)
    @test vec(factors) == [word >> 62 == 0 ? 0.0f0 : Float32(1 / 0.75) for word in words]
    @test isnothing(Training.dropout_masks(MobileNet(TINY), config, 3))
    losses = fit!(model, images, labels, TrainConfig(; batch_size=8, steps=2))
    @test all(isfinite, losses)
end

@testset "a run that is continued has the bits of an uninterrupted one" begin
    uninterrupted, first_half, second_half = MobileNet(TINY), MobileNet(TINY), MobileNet(TINY)
    long = TrainConfig(; optimizer=:adam, rate=1e-3, batch_size=8, steps=6, schedule=:cosine)
    optimizer, other = setup_optimizer(long, first_half), setup_optimizer(long, second_half)
    losses = fit!(uninterrupted, images, labels, long)
    recorded = Float64[]
    try
        fit!(first_half, images, labels, long; optimizer, callback=(step, loss) -> begin
            push!(recorded, loss)
            step == 3 && throw(InterruptException())
        end)
    catch error
        error isa InterruptException || rethrow()
    end
    set_state!(second_half, other, get_state(first_half, optimizer))
    append!(recorded, fit!(second_half, images, labels, long; optimizer=other, start=4))
    @test recorded == losses
    @test get_state(second_half) == get_state(uninterrupted)
end
