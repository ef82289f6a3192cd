using MobileNets.Kernels: AllocatingWorkspace, FastKernels, ReferenceKernels, apply_dropout, cross_entropy, global_mean,
    linear, residual_add, softmax
using Flux: Flux


rng = StableRNG(1)

@testset "the loss is Flux's, in Float64, without overflow" begin
    logits, labels = randn(rng, Float32, 5, 4), [0, 4, 2, 2]
    onehot = Flux.onehotbatch(labels, 0:4)
    @test cross_entropy(logits, labels) isa Float64
    @test cross_entropy(logits, labels) ≈ Flux.logitcrossentropy(Float64.(logits), onehot) rtol = 1e-14
    @test cross_entropy([1e4 0.0; 0.0 1e4], [1, 1]) == 5e3
end

@testset "the loss of distributions is Flux's, and that of one-hot distributions is that of labels" begin
    logits, labels = randn(rng, 5, 4), [0, 4, 2, 2]
    weights = rand(rng, 5, 4)
    targets = weights ./ sum(weights; dims=1)
    @test cross_entropy(logits, targets) ≈ Flux.logitcrossentropy(logits, targets) rtol = 1e-14
    one_hot = Float64.((0:4) .== labels')
    @test cross_entropy(logits, one_hot) == cross_entropy(logits, labels)
    gradients = map((one_hot, labels)) do target
        only(Flux.gradient(l -> cross_entropy(l, target), logits))
    end
    @test gradients[1] == gradients[2]
end

@testset "gradients are finite differences" begin
    logits, labels = randn(rng, 5, 4), [0, 4, 2, 2]
    weights = rand(rng, 5, 4)
    for target in (labels, weights ./ sum(weights; dims=1))
        loss() = cross_entropy(logits, target)
        gradient, = Flux.gradient(l -> cross_entropy(l, target), logits)
        @test deviation(gradient, finite_differences(loss, logits)) < 1e-8
    end

    maps = randn(rng, 3, 2, 4, 2)
    for kernels in (FastKernels(AllocatingWorkspace()), ReferenceKernels())
        mean(x) = global_mean(kernels, x)
        dy = randn(rng, size(mean(maps)))
        _, back = Flux.pullback(mean, maps)
        @test deviation(only(back(dy)), finite_differences(() -> sum(mean(maps) .* dy), maps)) < 1e-8
    end

    arrays = randn(rng, 4, 3), randn(rng, 4, 5), randn(rng, 5)
    dy = randn(rng, 5, 3)
    classify(arrays...) = linear(arrays..., AllocatingWorkspace())
    _, back = Flux.pullback(classify, arrays...)
    for (array, gradient) in zip(arrays, back(dy))
        @test deviation(gradient, finite_differences(() -> sum(classify(arrays...) .* dy), array)) < 1e-8
    end
end

@testset "the mean over each plane, summed in Float64" begin
    maps = randn(rng, Float32, 5, 4, 3, 2)
    expected = dropdims(sum(Float64.(maps); dims=(2, 3)); dims=(2, 3)) ./ 12
    @test global_mean(FastKernels(AllocatingWorkspace()), maps) == Float32.(expected)
    @test global_mean(ReferenceKernels(), permutedims(maps, (2, 3, 1, 4))) == Float32.(expected)
end

@testset "residual blocks add" begin
    maps, input = randn(rng, 3, 4, 5, 2), randn(rng, 3, 4, 5, 2)
    for kernels in (FastKernels(AllocatingWorkspace()), ReferenceKernels())
        @test residual_add(kernels, maps, input) == maps + input
    end
end

@testset "dropout multiplies features by factors, and their gradient too" begin
    features, factors = randn(rng, 3, 4), rand(rng, [0.0, 2.0], 3, 4)
    @test apply_dropout(features, nothing) === features
    y, back = Flux.pullback(f -> apply_dropout(f, factors), features)
    @test y == features .* factors && only(back(ones(3, 4))) == factors
end

@testset "softmax is Flux's, in Float64, without overflow" begin
    logits = randn(rng, Float32, 5, 4)
    @test softmax(logits) ≈ Flux.softmax(Float64.(logits)) rtol = 1e-6
    @test softmax([1e4 0.0; 0.0 1e4]) == [1 0; 0 1]
end
