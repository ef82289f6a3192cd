using Flux: Flux

using MobileNets.Philox: STREAM, raw_words, uniform64
using SHA: sha256

@testset "a seed denotes one model, the same in both types: $(config.family) $init" for
    (config, init) in ((TINY, :he), (TINY_V2, :torchvision), (TINY_BOTTLENECK, :torch))

    narrow, wide = MobileNet(config; seed=3, init), MobileNet(config; seed=3, init, dtype=Float64)
    for ((name, a), (_, b)) in zip(get_state(narrow), get_state(wide))
        @test a == b
        @test eltype(b) === Float64
    end
    @test get_state(narrow) != get_state(MobileNet(config; seed=4, init))
end

@testset "weights are the words of their position, scaled to the bound" begin
    model = MobileNet(TINY; seed=5)
    weight = model.blocks[1].depthwise.conv.weight
    bound = sqrt(6 / 9)
    words = raw_words(5, STREAM.INIT, 0, 3, length(weight))
    @test vec(weight) == Float32.((2 .* uniform64.(words) .- 1) .* bound)
    @test maximum(abs, model.classifier.weight) <= 1 / sqrt(102)
    @test all(iszero, model.classifier.bias)
    @test all(isone, model.stem.norm.running_var)
end

const V2 = MobileNetConfig(; family=:v2, width_mult=0.5, num_classes=200)

deviation_of(values) = sqrt(sum(abs2, values) / length(values))
deciles(values) = sort(vec(values))[ceil.(Int, (0.05:0.05:0.95) .* length(values))]

"Whether deciles and standard deviation agree within five standard errors."
function same_distribution(sample, other)
    scale, error = deviation_of(other), 5 / sqrt(min(length(sample), length(other)))
    return maximum(abs, deciles(sample) .- deciles(other)) < 1.8scale * error &&
           abs(deviation_of(sample) - scale) < scale * error
end

"The random weights by name."
random_weights(init) = [name => array for (name, array) in get_state(MobileNet(V2; init)) if ndims(array) > 1]

@testset ":flux has the distribution of Flux.glorot_uniform, :keras is the same" begin
    for (name, weight) in random_weights(:flux)
        copies = cld(10_000, length(weight))
        samples = [Flux.glorot_uniform(StableRNG(k), size(weight)...) for k in 1:copies]
        @test same_distribution(weight, reduce(vcat, vec.(samples)))
    end
    @test random_weights(:flux) == random_weights(:keras)
end

@testset ":torch is uniform in ±1/sqrt(fan_in), the bias too" begin
    for (name, weight) in random_weights(:torch)
        bound = 1 / sqrt(prod(size(weight)[1:(end - 1)]))
        @test maximum(abs, weight) <= Float32(bound)
        @test same_distribution(weight, bound .* (2rand(StableRNG(1), 10_000) .- 1))
    end
    bias = MobileNet(V2; init=:torch).classifier.bias
    words = raw_words(0, STREAM.INIT, 0, length(parameter_shapes(V2)) - 1, 200)
    @test bias == Float32.((2 .* uniform64.(words) .- 1) .* sqrt(1 / 1280))
end

@testset ":torchvision is normal with sqrt(2 / fan_out), the classifier with 0.01" begin
    for (name, weight) in random_weights(:torchvision)
        conv = endswith(name, "conv.weight")
        scale = conv ? sqrt(2 / prod(size(weight)[[1, 2, 4]])) : 0.01
        @test same_distribution(weight, scale .* randn(StableRNG(1), 10_000))
    end
    @test all(iszero, MobileNet(V2; init=:torchvision).classifier.bias)
end

@testset "invalid options are rejected" begin
    @test message(() -> MobileNet(TINY; dtype=Float16), ConfigError) ==
        "dtype must be one of Float32, Float64. Received: Float16"
    @test_throws ConfigError MobileNet(TINY; seed=-1)
    @test get_state(MobileNet(TINY; init="torch")) == get_state(MobileNet(TINY; init=:torch))
    @test message(() -> MobileNet(TINY; kernels=:slow), ConfigError) ==
        "kernels must be one of fast, reference. Received: :slow"
    @test message(() -> MobileNet(TINY; init="orthogonal"), ConfigError) ==
        "init must be one of he, torch, flux, torchvision, keras. Received: \"orthogonal\""
end

@testset "initial weights are those of the shared vectors: $(case["config"]), $(case["init"])" for
    case in vectors("initial_state")["cases"]

    config = from_json(MobileNetConfig, case["config"])
    state = get_state(MobileNet(config; seed=parse(UInt64, case["seed"]), init=case["init"]))
    for (name, bits) in case["first"]
        values = vec(Dict(state)[name])[1:length(bits)]
        @test string.(reinterpret(UInt32, values); base=16, pad=8) == bits
    end
    bytes = reduce(vcat, (reinterpret(UInt8, vec(array)) for (_, array) in sort(collect(state); by=first)))
    @test bytes2hex(sha256(bytes)) == case["sha256"]
end
