using MobileNets: STREAM, raw_words, uniform64

@testset "a seed names one model, the same in both types" begin
    narrow, wide = build(TINY; seed=3), build(TINY; seed=3, dtype=Float64)
    for ((name, a), (_, b)) in zip(get_state(narrow), get_state(wide))
        @test a == b
        @test eltype(b) === Float64
    end
    @test get_state(narrow) != get_state(build(TINY; seed=4))
end

@testset "weights are the words of their position, within the bound" begin
    model = build(TINY; seed=5)
    weight = model.blocks[1].depthwise.conv.weight
    bound = sqrt(6 / 9)
    words = raw_words(5, STREAM.INIT, 0, 3, length(weight))
    @test vec(weight) == Float32.((2 .* uniform64.(words) .- 1) .* bound)
    @test maximum(abs, model.classifier.weight) <= 1 / sqrt(102)
    @test all(iszero, model.classifier.bias)
    @test all(isone, model.stem.norm.running_var)
end

@testset "what cannot be built is refused" begin
    @test message(() -> build(TINY; dtype=Float16), ConfigError) ==
        "dtype must be one of Float32, Float64. Received: Float16"
    @test_throws ConfigError build(TINY; seed=-1)
end
