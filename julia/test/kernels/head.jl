using MobileNets: Fast, Flux, Fresh, Reference, cross_entropy, global_mean, linear

rng = StableRNG(1)

@testset "the loss is Flux's, in Float64, without overflow" begin
    logits, labels = randn(rng, Float32, 5, 4), [0, 4, 2, 2]
    onehot = Flux.onehotbatch(labels, 0:4)
    @test cross_entropy(logits, labels) isa Float64
    @test cross_entropy(logits, labels) ≈ Flux.logitcrossentropy(Float64.(logits), onehot) rtol = 1e-14
    @test cross_entropy([1e4 0.0; 0.0 1e4], [1, 1]) == 5e3
end

@testset "the loss of distributions is Flux's, and that of certain ones the labels'" begin
    logits, labels = randn(rng, 5, 4), [0, 4, 2, 2]
    drawn = rand(rng, 5, 4)
    targets = drawn ./ sum(drawn; dims=1)
    @test cross_entropy(logits, targets) ≈ Flux.logitcrossentropy(logits, targets) rtol = 1e-14
    certain = Float64.((0:4) .== labels')
    @test cross_entropy(logits, certain) == cross_entropy(logits, labels)
    gradients = map((certain, labels)) do one
        only(Flux.gradient(l -> cross_entropy(l, one), logits))
    end
    @test gradients[1] == gradients[2]
end

@testset "gradients are the finite differences" begin
    logits, labels = randn(rng, 5, 4), [0, 4, 2, 2]
    drawn = rand(rng, 5, 4)
    for given in (labels, drawn ./ sum(drawn; dims=1))
        loss() = cross_entropy(logits, given)
        gradient, = Flux.gradient(l -> cross_entropy(l, given), logits)
        @test deviation(gradient, differences(loss, logits)) < 1e-8
    end

    maps = randn(rng, 3, 2, 4, 2)
    for kernels in (Fast(Fresh()), Reference())
        mean(x) = global_mean(kernels, x)
        dy = randn(rng, size(mean(maps)))
        _, back = Flux.pullback(mean, maps)
        @test deviation(only(back(dy)), differences(() -> sum(mean(maps) .* dy), maps)) < 1e-8
    end

    arrays = randn(rng, 4, 3), randn(rng, 4, 5), randn(rng, 5)
    dy = randn(rng, 5, 3)
    classify(arrays...) = linear(arrays..., Fresh())
    _, back = Flux.pullback(classify, arrays...)
    for (array, gradient) in zip(arrays, back(dy))
        @test deviation(gradient, differences(() -> sum(classify(arrays...) .* dy), array)) < 1e-8
    end
end

@testset "the mean over each plane, summed in Float64" begin
    maps = randn(rng, Float32, 5, 4, 3, 2)
    wanted = dropdims(sum(Float64.(maps); dims=(2, 3)); dims=(2, 3)) ./ 12
    @test global_mean(Fast(Fresh()), maps) == Float32.(wanted)
    @test global_mean(Reference(), permutedims(maps, (2, 3, 1, 4))) == Float32.(wanted)
end

@testset "residual blocks add" begin
    maps, input = randn(rng, 3, 4, 5, 2), randn(rng, 3, 4, 5, 2)
    for kernels in (Fast(Fresh()), Reference())
        @test MobileNets.add(kernels, maps, input) == maps + input
    end
end
