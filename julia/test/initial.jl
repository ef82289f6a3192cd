using MobileNets: STREAM, logarithm, normal64, quantile, raw_words, uniform64
using MobileNets: Flux

@testset "a seed names one model, the same in both types: $(config.family) $init" for
    (config, init) in ((TINY, "he"), (TINY_V2, "torchvision"), (TINY_BOTTLENECK, "torch"))

    narrow, wide = build(config; seed=3, init), build(config; seed=3, init, dtype=Float64)
    for ((name, a), (_, b)) in zip(get_state(narrow), get_state(wide))
        @test a == b
        @test eltype(b) === Float64
    end
    @test get_state(narrow) != get_state(build(config; seed=4, init))
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

const V2 = MobileNetConfig(; family="v2", width_mult=0.5, num_classes=200)

deviation_of(values) = sqrt(sum(abs2, values) / length(values))
deciles(values) = sort(vec(values))[ceil.(Int, (0.05:0.05:0.95) .* length(values))]

"Deciles and deviation within five standard errors of so many draws."
function same_distribution(ours, theirs)
    scale, error = deviation_of(theirs), 5 / sqrt(min(length(ours), length(theirs)))
    return maximum(abs, deciles(ours) .- deciles(theirs)) < 1.8scale * error &&
           abs(deviation_of(ours) - scale) < scale * error
end

"Every weight that is drawn, by its name."
drawn(init) = [name => array for (name, array) in get_state(build(V2; init)) if ndims(array) > 1]

@testset "flux draws as Flux.glorot_uniform, keras the same" begin
    for (name, weight) in drawn("flux")
        copies = cld(10_000, length(weight))
        theirs = [Flux.glorot_uniform(StableRNG(k), size(weight)...) for k in 1:copies]
        @test same_distribution(weight, reduce(vcat, vec.(theirs)))
    end
    @test drawn("flux") == drawn("keras")
end

@testset "torch draws uniformly within 1 over the root of what goes in, the bias too" begin
    for (name, weight) in drawn("torch")
        bound = 1 / sqrt(prod(size(weight)[1:(end - 1)]))
        @test maximum(abs, weight) <= Float32(bound)
        @test same_distribution(weight, bound .* (2rand(StableRNG(1), 10_000) .- 1))
    end
    bias = build(V2; init="torch").classifier.bias
    words = raw_words(0, STREAM.INIT, 0, length(parameter_shapes(V2)) - 1, 200)
    @test bias == Float32.((2 .* uniform64.(words) .- 1) .* sqrt(1 / 1280))
end

@testset "torchvision draws normally by what comes out, its classifier by 0.01" begin
    for (name, weight) in drawn("torchvision")
        conv = endswith(name, "conv.weight")
        scale = conv ? sqrt(2 / prod(size(weight)[[1, 2, 4]])) : 0.01
        @test same_distribution(weight, scale .* randn(StableRNG(1), 10_000))
    end
    @test all(iszero, build(V2; init="torchvision").classifier.bias)
end

@testset "the quantile undoes the normal distribution function" begin
    # mpmath: sqrt(2) * erfinv(2u - 1), to 30 digits
    known = (
        1e-16 => -8.222082216130435, 1e-9 => -5.9978070150076865, 0.01 => -2.3263478740408408,
        0.0751 => -1.43882539275254, 0.3 => -0.5244005127080407, 0.5 => 0.0,
    )
    for (u, x) in known
        @test quantile(u) ≈ x rtol = 4e-15
        u == 1e-16 || @test quantile(1 - u) ≈ -x rtol = 1e-7
    end
    @test normal64(UInt64(0)) == -normal64(typemax(UInt64))
    @test 8.2 < normal64(typemax(UInt64)) < 8.3
    @test all(logarithm(x) ≈ log(x) for x in exp10.(-300:7:300))
    ours = normal64.(raw_words(0, STREAM.PROBE, 0, 0, 100_000))
    @test same_distribution(ours, randn(StableRNG(1), 100_000))
end

@testset "what cannot be built is refused" begin
    @test message(() -> build(TINY; dtype=Float16), ConfigError) ==
        "dtype must be one of Float32, Float64. Received: Float16"
    @test_throws ConfigError build(TINY; seed=-1)
    @test message(() -> build(TINY; init="orthogonal"), ConfigError) ==
        "init must be one of he, torch, flux, torchvision, keras. Received: \"orthogonal\""
end
