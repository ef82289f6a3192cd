model = MobileNet(TINY)
x, labels = example(Float32)
rejection(x, labels=labels; masks=nothing) =
    message(() -> loss_and_grads(model, x, labels; masks), DataError)

@testset "images that do not match are rejected" begin
    @test rejection(x[:, :, 1:2, :]) ==
        "images must be an array (W, H, 3, N). Received: Float32 array of size (9, 7, 2, 3)"
    @test endswith(rejection("x"), "Received: String")
    @test occursin("empty", rejection(x[:, :, :, 1:0]))
    @test occursin("images must be Float32", rejection(Float64.(x)))
    bad = copy(x)
    bad[2, 3, 1, 2] = NaN
    @test rejection(bad) == "images must be finite. Received: NaN at [2, 3, 1, 2]"
    @test message(() -> predict(model, bad), DataError) == rejection(bad)
end

@testset "images that one-sided padding reduces to nothing are rejected" begin
    @test message(() -> predict(MobileNet(TINY_V2), ones(Float32, 7, 32, 3, 1)), DataError) ==
        "images must be large enough for a last map of at least one pixel. Received: 7x32 pixels"
    @test size(predict(MobileNet(TINY_V2), ones(Float32, 8, 8, 3, 1))) == (7, 1)
end

@testset "views are accepted" begin
    wide = zeros(Float32, 9, 7, 3, 6)
    wide[:, :, :, 2:4] = x
    @test predict(model, @view wide[:, :, :, 2:4]) == predict(model, x)
end

@testset "labels that do not match are rejected" begin
    @test rejection(x, [0, 1]) == "labels must be 3 integers, one for each image, or Float32 distributions " *
        "(7, 3). Received: Int64 array of size (2,)"
    @test occursin("labels must be 3 integers", rejection(x, [0.0, 1.0, 2.0]))
    @test rejection(x, [0, 7, 1]) == "labels must be in [0, 7). Received: 7 at [2]"
    @test rejection(x, UInt8[0, 255, 1]) == "labels must be in [0, 7). Received: 255 at [2]"
end

@testset "distributions that do not match are rejected" begin
    even = fill(1.0f0 / 7, 7, 3)
    @test rejection(x, even[:, 1:2]) ==
        "labels that are distributions must be Float32 (7, 3). Received: Float32 array of size (7, 2)"
    @test occursin("must be Float32 (7, 3). Received: Float64", rejection(x, Float64.(even)))
    @test occursin("labels must be 3 integers", rejection(x, ones(Int, 7, 3)))
    swap = zeros(Float32, 7, 3)
    swap[2, 3], swap[5, 3] = -0.5, 0.5
    @test endswith(rejection(x, even + swap), "at [2, 3]")
    @test startswith(rejection(x, even + swap), "labels must not be negative. Received: -0.35")
    @test rejection(x, even .* NaN32) == "labels must not be negative. Received: NaN at [1, 1]"
    @test startswith(rejection(x, even .* [1 1 1.01f0]), "each column of labels must sum to 1, within 1.0e-5")
end

@testset "training requires two values per channel" begin
    one = x[:, :, :, 1:1]
    @test occursin("batch 1 with a last map of 1x1", rejection(one, labels[1:1]))
    @test size(predict(model, one)) == (7, 1)
    @test_throws DataError activations(model, one; train=true)
end

@testset "masks that do not match are rejected" begin
    @test occursin("no such activation", rejection(x; masks=Dict("stem" => zeros(UInt8, 1, 1, 1, 1))))
    @test occursin(
        "masks[\"stem.act\"] must be UInt8 (9, 7, 3, 3). Received: UInt8 array of size (9, 7, 3, 2)",
        rejection(x; masks=Dict("stem.act" => zeros(UInt8, 9, 7, 3, 2))),
    )
    linear = Dict("blocks.0.project.act" => zeros(UInt8, 1, 1, 1, 1))
    @test occursin("no such activation", message(
        () -> loss_and_grads(MobileNet(TINY_V2), ones(Float32, 32, 32, 3, 2), [0, 1]; masks=linear),
        DataError,
    ))
    @test occursin("must be Float32 (102, 3)", rejection(x; masks=Dict("dropout" => ones(102, 3))))
    @test rejection(x; masks=Dict("stem.act" => fill(0x03, 9, 7, 3, 3))) ==
        "masks[\"stem.act\"] must be in 0..2. Received: 3"
    @test rejection(x; masks=Dict("dropout" => fill(Inf32, 102, 3))) ==
        "masks[\"dropout\"] must be finite. Received: Inf"
end
