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

@testset "a batch larger than the data and labels out of range are refused" begin
    model = build(TINY)
    @test_throws ConfigError fit!(model, images, labels, TrainConfig(; batch_size=25))
    @test_throws DataError fit!(model, images, fill(7, 24), config)
    @test_throws ConfigError fit!(model, images, labels, TrainConfig(; batch_size=8, mixup=1))
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
