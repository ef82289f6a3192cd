using MobileNets.Data: steps_per_epoch

file = vectors("batch_plan")
plan_of(case) = BatchPlan(;
    seed=parse(UInt64, case["seed"]), num_images=case["num_images"], batch_size=case["batch_size"],
    crop_padding=case["crop_padding"], flip=case["flip"],
)

@testset "plans are those of the shared vectors" begin
    for case in file["plans"]
        batch = batch_spec(plan_of(case), case["step"])
        @test batch.indices == case["indices"]
        @test (batch.dy, batch.dx, batch.flips) == (case["dy"], case["dx"], case["flips"])
    end
end

@testset "crops and flips are those of the shared vectors" begin
    case = file["apply"]
    count, channels, height, width = case["shape"]
    pixel(n, c, y, x) = UInt8((61n + 37c + 11y + 5x + 1) % 256)
    images = [
        pixel(n, c, y, x) for x in 0:(width - 1), y in 0:(height - 1), c in 0:(channels - 1),
        n in 0:(count - 1)
    ]
    batch = (; (Symbol(name) => case[name] for name in keys(case))...)
    @test vec(crop_and_flip(images, batch)) == case["result"]
end

@testset "an epoch contains each image once" begin
    plan = BatchPlan(; seed=3, num_images=13, batch_size=4)
    @test steps_per_epoch(plan) == 3
    epoch = reduce(vcat, batch_spec(plan, step).indices for step in 0:2)
    @test allunique(epoch) && issubset(epoch, 0:12)
    @test batch_spec(plan, 3).indices != batch_spec(plan, 0).indices
    unflipped = BatchPlan(; seed=3, num_images=13, batch_size=4, flip=false)
    @test !any(batch_spec(unflipped, 0).flips)
end

@testset "invalid plans are rejected" begin
    for invalid in ((seed=-1,), (num_images=0,), (batch_size=14,), (batch_size=0,), (crop_padding=-1,), (flip=1,))
        fields = merge((seed=0, num_images=13, batch_size=4), invalid)
        @test_throws ConfigError BatchPlan(; fields...)
    end
    @test_throws ConfigError batch_spec(BatchPlan(; seed=0, num_images=3, batch_size=2), -1)
    images = zeros(UInt8, 4, 4, 3, 5)
    batch = batch_spec(BatchPlan(; seed=0, num_images=13, batch_size=13), 0)
    @test occursin("names image 12, but images holds only 5", message(
        () -> crop_and_flip(images, batch), DataError
    ))
end
