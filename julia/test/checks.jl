model = build(TINY)
x, labels = example(Float32)
refused(x, labels=labels; masks=nothing) =
    message(() -> loss_and_grads(model, x, labels; masks), DataError)

@testset "images that do not fit are refused" begin
    @test refused(x[:, :, 1:2, :]) ==
        "images must be an array (W, H, 3, N). Received: Float32 array of size (9, 7, 2, 3)"
    @test endswith(refused("x"), "Received: String")
    @test occursin("empty", refused(x[:, :, :, 1:0]))
    @test occursin("images must be Float32", refused(Float64.(x)))
    bad = copy(x)
    bad[2, 3, 1, 2] = NaN
    @test refused(bad) == "images must be finite. Received: NaN at [2, 3, 1, 2]"
    @test message(() -> predict(model, bad), DataError) == refused(bad)
end

@testset "images that a padding of one side leaves nothing of are refused" begin
    @test message(() -> predict(build(TINY_V2), ones(Float32, 7, 32, 3, 1)), DataError) ==
        "images must leave a map to pool, at least one pixel. Received: 7x32 pixels"
    @test size(predict(build(TINY_V2), ones(Float32, 8, 8, 3, 1))) == (7, 1)
end

@testset "views are taken as they are" begin
    wide = zeros(Float32, 9, 7, 3, 6)
    wide[:, :, :, 2:4] = x
    @test predict(model, @view wide[:, :, :, 2:4]) == predict(model, x)
end

@testset "labels that do not fit are refused" begin
    @test refused(x, [0, 1]) == "labels must be 3 integers, one for each image, or Float32 distributions " *
        "(7, 3). Received: Int64 array of size (2,)"
    @test occursin("labels must be 3 integers", refused(x, [0.0, 1.0, 2.0]))
    @test refused(x, [0, 7, 1]) == "labels must be in [0, 7). Received: 7 at [2]"
    @test refused(x, UInt8[0, 255, 1]) == "labels must be in [0, 7). Received: 255 at [2]"
end

@testset "distributions that do not fit are refused" begin
    even = fill(1.0f0 / 7, 7, 3)
    @test refused(x, even[:, 1:2]) ==
        "labels that are distributions must be Float32 (7, 3). Received: Float32 array of size (7, 2)"
    @test occursin("must be Float32 (7, 3). Received: Float64", refused(x, Float64.(even)))
    @test occursin("labels must be 3 integers", refused(x, ones(Int, 7, 3)))
    swap = zeros(Float32, 7, 3)
    swap[2, 3], swap[5, 3] = -0.5, 0.5
    @test endswith(refused(x, even + swap), "at [2, 3]")
    @test startswith(refused(x, even + swap), "labels must not be negative. Received: -0.35")
    @test refused(x, even .* NaN32) == "labels must not be negative. Received: NaN at [1, 1]"
    @test startswith(refused(x, even .* [1 1 1.01f0]), "each column of labels must sum to 1, within 1.0e-5")
end

@testset "training needs two values per channel" begin
    one = x[:, :, :, 1:1]
    @test occursin("batch 1 with a last map of 1x1", refused(one, labels[1:1]))
    @test size(predict(model, one)) == (7, 1)
    @test_throws DataError activations(model, one; train=true)
end

@testset "masks that do not fit are refused" begin
    @test occursin("no such activation", refused(x; masks=Dict("stem" => zeros(UInt8, 1, 1, 1, 1))))
    @test occursin(
        "masks[\"stem.act\"] must be UInt8 (9, 7, 3, 3). Received: UInt8 array of size (9, 7, 3, 2)",
        refused(x; masks=Dict("stem.act" => zeros(UInt8, 9, 7, 3, 2))),
    )
    linear = Dict("blocks.0.project.act" => zeros(UInt8, 1, 1, 1, 1))
    @test occursin("no such activation", message(
        () -> loss_and_grads(build(TINY_V2), ones(Float32, 32, 32, 3, 2), [0, 1]; masks=linear),
        DataError,
    ))
    @test occursin("must be Float32 (102, 3)", refused(x; masks=Dict("dropout" => ones(102, 3))))
    @test refused(x; masks=Dict("stem.act" => fill(0x03, 9, 7, 3, 3))) ==
        "masks[\"stem.act\"] must be in 0..2. Received: 3"
    @test refused(x; masks=Dict("dropout" => fill(Inf32, 102, 3))) ==
        "masks[\"dropout\"] must be finite. Received: Inf"
end
