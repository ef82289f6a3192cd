using MobileNets: cross_entropy, global_mean, linear
using MobileNets: Flux

rng = StableRNG(1)

@testset "the loss is Flux's, in Float64, without overflow" begin
    logits, labels = randn(rng, Float32, 5, 4), [0, 4, 2, 2]
    onehot = Flux.onehotbatch(labels, 0:4)
    @test cross_entropy(logits, labels) isa Float64
    @test cross_entropy(logits, labels) ≈ Flux.logitcrossentropy(Float64.(logits), onehot) rtol = 1e-14
    @test cross_entropy([1e4 0.0; 0.0 1e4], [1, 1]) == 5e3
end

@testset "gradients are the finite differences" begin
    logits, labels = randn(rng, 5, 4), [0, 4, 2, 2]
    loss() = cross_entropy(logits, labels)
    gradient, = Flux.gradient(l -> cross_entropy(l, labels), logits)
    @test deviation(gradient, differences(loss, logits)) < 1e-8

    maps = randn(rng, 3, 2, 4, 2)
    dy = randn(rng, 4, 2)
    _, back = Flux.pullback(global_mean, maps)
    @test deviation(only(back(dy)), differences(() -> sum(global_mean(maps) .* dy), maps)) < 1e-8

    arrays = randn(rng, 4, 3), randn(rng, 4, 5), randn(rng, 5)
    dy = randn(rng, 5, 3)
    _, back = Flux.pullback(linear, arrays...)
    for (array, gradient) in zip(arrays, back(dy))
        @test deviation(gradient, differences(() -> sum(linear(arrays...) .* dy), array)) < 1e-8
    end
end
