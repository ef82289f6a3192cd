using MobileNets: batch_statistics, norm_eval, norm_train
using MobileNets.Flux: pullback

rng = StableRNG(1)
x, weight, bias = randn(rng, 5, 4, 3, 2) .+ 2, randn(rng, 3), randn(rng, 3)
mean, var = randn(rng, 3), rand(rng, 3)
dy = randn(rng, size(x))

@testset "gradients are the finite differences: $mode" for (mode, norm) in (
    "training" => (x, w, b) -> norm_train(x, w, b, 1e-3)[1],
    "evaluation" => (x, w, b) -> norm_eval(x, w, b, mean, var, 1e-3),
)
    _, back = pullback(norm, x, weight, bias)
    for (array, gradient) in zip((x, weight, bias), back(dy))
        wanted = differences(() -> sum(norm(x, weight, bias) .* dy), array)
        @test deviation(gradient, wanted) < 1e-8
    end
end

@testset "Float32 keeps all its digits" begin
    maps = randn(StableRNG(2), Float32, 32, 32, 4, 64) .+ 3.0f0
    wide = Float64.(maps)
    found, mean, var = norm_train(maps, ones(Float32, 4), zeros(Float32, 4), 1e-5)
    wanted, _, _ = norm_train(wide, ones(4), zeros(4), 1e-5)
    @test deviation(mean, vec(sum(wide; dims=(1, 2, 4))) ./ (32 * 32 * 64)) < 1e-14
    @test sqrt(sum(abs2, found - wanted) / sum(abs2, wanted)) < 5e-8
end

@testset "the variance is the biased one" begin
    @test batch_statistics(reshape([1.0, 3.0], 1, 1, 1, 2)) == ([2.0], [1.0])
end
