using MobileNets: steps_per_epoch

file = vectors("batch_plan")
plan_of(case) = BatchPlan(;
    seed=parse(UInt64, case["seed"]), num_images=case["num_images"], batch_size=case["batch_size"],
    crop_padding=case["crop_padding"], flip=case["flip"],
)

@testset "plans are the ones Python wrote" begin
    for case in file["plans"]
        found = batch(plan_of(case), case["step"])
        @test found.indices == case["indices"]
        @test (found.dy, found.dx, found.flips) == (case["dy"], case["dx"], case["flips"])
    end
end

@testset "crops, flips and normalised values are the ones Python wrote" begin
    case = file["apply"]
    count, channels, height, width = case["shape"]
    pixel(n, c, y, x) = UInt8((61n + 37c + 11y + 5x + 1) % 256)
    images = [
        pixel(n, c, y, x) for x in 0:(width - 1), y in 0:(height - 1), c in 0:(channels - 1),
        n in 0:(count - 1)
    ]
    chosen = (; (Symbol(name) => case[name] for name in keys(case))...)
    @test vec(crop_and_flip(images, chosen)) == case["result"]

    case = file["normalise"]
    bytes = repeat(reshape(UInt8.(case["bytes"]), :, 1, 1, 1), 1, 1, 3, 1)
    for (name, T, bits) in (("float32", Float32, UInt32), ("float64", Float64, UInt64))
        found = reinterpret(bits, normalise(bytes, case["mean"], case["std"], T))
        wanted = [parse.(bits, channel; base=16) for channel in case[name]]
        @test [vec(found[:, :, c, :]) for c in 1:3] == wanted
    end
end

@testset "an epoch sees each image once" begin
    plan = BatchPlan(; seed=3, num_images=13, batch_size=4)
    @test steps_per_epoch(plan) == 3
    epoch = reduce(vcat, batch(plan, step).indices for step in 0:2)
    @test allunique(epoch) && issubset(epoch, 0:12)
    @test batch(plan, 3).indices != batch(plan, 0).indices
    unflipped = BatchPlan(; seed=3, num_images=13, batch_size=4, flip=false)
    @test !any(batch(unflipped, 0).flips)
end

@testset "plans that cannot be are refused" begin
    for wrong in ((seed=-1,), (num_images=0,), (batch_size=14,), (batch_size=0,), (crop_padding=-1,))
        fields = merge((seed=0, num_images=13, batch_size=4), wrong)
        @test_throws ConfigError BatchPlan(; fields...)
    end
    @test_throws ConfigError batch(BatchPlan(; seed=0, num_images=3, batch_size=2), -1)
    images = zeros(UInt8, 4, 4, 3, 5)
    chosen = batch(BatchPlan(; seed=0, num_images=13, batch_size=13), 0)
    @test occursin("names image 12, but images holds only 5", message(
        () -> crop_and_flip(images, chosen), DataError
    ))
end

@testset "normalise rounds once, and refuses a wrong mean or deviation" begin
    images = reshape(UInt8[0, 128, 255], 1, 1, 3, 1)
    @test vec(normalise(images, (0.1, 0.2, 0.3), (0.5, 0.25, 2), Float64)) ==
        [(0 / 255 - 0.1) / 0.5, (128 / 255 - 0.2) / 0.25, (255 / 255 - 0.3) / 2]
    @test normalise(images, (0, 0, 0), (1, 1, 1)) isa Array{Float32,4}
    @test_throws ConfigError normalise(images, (0, 0), (1, 1))
    @test_throws ConfigError normalise(images, (0, 0, 0), (1, 0, 1))
end

@testset "what a file says that its images were scaled by" begin
    scaling(; said...) = MobileNets.scaling(Dict(string(key) => value for (key, value) in said))
    @test scaling() == scaling(preprocessing="standard") == MobileNets.PREPROCESSING["standard"]
    @test scaling(preprocessing="keras") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    mean, std = "[0.1,0.2,0.3]", "[1,0.5,0.25]"
    @test scaling(; mean, std) == ((0.1, 0.2, 0.3), (1.0, 0.5, 0.25))
    @test occursin("Received: \"other\"", message(() -> scaling(preprocessing="other"), WeightsError))
    @test occursin("both, or neither", message(() -> scaling(; mean), WeightsError))
    for wrong in ("[0.1,0.2]", "[0,1,1]", "[true,1,1]", "{", "null")
        @test endswith(message(() -> scaling(; mean, std=wrong), WeightsError), "Received: $wrong")
    end
end
