@testset "values are those of the shared vectors" begin
    case = vectors("batch_plan")["normalise"]
    bytes = repeat(reshape(UInt8.(case["bytes"]), :, 1, 1, 1), 1, 1, 3, 1)
    for (name, T, bits) in (("float32", Float32, UInt32), ("float64", Float64, UInt64))
        values = reinterpret(bits, normalise_images(bytes, case["mean"], case["std"], T))
        expected = [parse.(bits, channel; base=16) for channel in case[name]]
        @test [vec(values[:, :, c, :]) for c in 1:3] == expected
    end
end

@testset "normalise_images rounds once, and rejects an invalid mean or standard deviation" begin
    images = reshape(UInt8[0, 128, 255], 1, 1, 3, 1)
    @test vec(normalise_images(images, (0.1, 0.2, 0.3), (0.5, 0.25, 2), Float64)) ==
        [(0 / 255 - 0.1) / 0.5, (128 / 255 - 0.2) / 0.25, (255 / 255 - 0.3) / 2]
    @test normalise_images(images, (0, 0, 0), (1, 1, 1)) isa Array{Float32,4}
    @test_throws ConfigError normalise_images(images, (0, 0), (1, 1))
    @test_throws ConfigError normalise_images(images, (0, 0, 0), (1, 0, 1))
end

@testset "the scaling of images is read from the metadata of a file" begin
    scaling(; entries...) = MobileNets.scaling(Dict(string(key) => value for (key, value) in entries))
    @test scaling() == scaling(preprocessing="standard") == Data.PREPROCESSING["standard"]
    @test scaling(preprocessing="keras") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    mean, std = "[0.1,0.2,0.3]", "[1,0.5,0.25]"
    @test scaling(; mean, std) == ((0.1, 0.2, 0.3), (1.0, 0.5, 0.25))
    @test occursin("Received: \"other\"", message(() -> scaling(preprocessing="other"), WeightsError))
    @test occursin("both, or neither", message(() -> scaling(; mean), WeightsError))
    for invalid in ("[0.1,0.2]", "[0,1,1]", "[true,1,1]", "{", "null")
        @test endswith(message(() -> scaling(; mean, std=invalid), WeightsError), "Received: $invalid")
    end
end
