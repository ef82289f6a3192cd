using MobileNets: targets
using MobileNets.Data: mix, rotate

file = vectors("augment")
plan_of(case) = BatchPlan(;
    seed=parse(UInt64, case["seed"]), num_images=case["num_images"], batch_size=case["batch_size"],
    rotation=case["rotation"], cutout=case["cutout"], mixup=case["mixup"],
)
function images_of(shape)
    count, channels, height, width = shape
    return [
        UInt8((61n + 37c + 11y + 5x + 1) % 256)
        for x in 0:(width - 1), y in 0:(height - 1), c in 0:(channels - 1), n in 0:(count - 1)
    ]
end

@testset "rotation, cutout and mixup are those of the shared vectors" begin
    for case in file["plans"]
        batch = batch_spec(plan_of(case), case["step"])
        @test (batch.angles, batch.partners, batch.weights) ==
            (case["angles"], case["partners"], case["weights"])
        words(pairs) = reduce(hcat, [parse.(UInt64, pair) for pair in pairs])
        @test batch.holes == (isnothing(case["holes"]) ? nothing : words(case["holes"]))
    end
end

@testset "pixels and targets are those of the shared vectors" begin
    for case in file["apply"]
        batch = batch_spec(plan_of(case), case["step"])
        @test vec(augment(images_of(case["shape"]), batch)) == case["result"]
        labels = [n % 3 for n in 0:(case["num_images"] - 1)]
        distributions = targets(labels, batch, 3)
        @test distributions isa Matrix{Float32}
        @test vec(distributions) .* 256 == case["targets_in_256ths"]
        @test targets(labels, batch, 3, Float64) == distributions
    end
end

@testset "augmentations do not change other random numbers" begin
    fields = (seed=5, num_images=60, batch_size=8)
    plain = batch_spec(BatchPlan(; fields...), 9)
    full = batch_spec(BatchPlan(; fields..., rotation=20, cutout=3, mixup=1), 9)
    for name in (:indices, :dy, :dx, :flips)
        @test plain[name] == full[name]
    end
    @test all(isnothing, (plain.angles, plain.holes, plain.partners, plain.weights))
    @test augment(images_of((60, 3, 4, 4)), plain) == crop_and_flip(images_of((60, 3, 4, 4)), plain)
end

@testset "right angles are exact, a weight of 1 changes nothing" begin
    images = rand(StableRNG(1), UInt8, 5, 5, 3, 2)
    rotated = rotate(images, [90 * 16, -180 * 16])
    # an array (W, H) is the transpose of the image, so that clockwise is reversed
    @test rotated[:, :, 2, 1] == rotl90(images[:, :, 2, 1])
    @test rotated[:, :, 3, 2] == rot180(images[:, :, 3, 2])
    @test rotate(images, [0, 0]) == images
    @test mix(images, [1, 0], [256, 0]) == images[:, :, :, [1, 1]]
end

@testset "augmentations out of range are rejected" begin
    rejection(; fields...) =
        message(() -> BatchPlan(; seed=0, num_images=3, batch_size=2, fields...), ConfigError)
    @test endswith(rejection(rotation=181), "rotation must be an integer in [0, 180]. Received: 181")
    @test endswith(rejection(cutout=-1), "cutout must be an integer in [0, 65535]. Received: -1")
    @test endswith(rejection(mixup=0.2), "mixup must be 0 (off) or 1 (uniform weights). Received: 0.2")
end
