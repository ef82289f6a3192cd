using MobileNets: dense_conv, depthwise, pointwise
using MobileNets.Flux: pullback

"Output and gradients of `conv(x, weight)` for the cotangent `dy`."
function with_gradients(conv, x, weight, dy)
    y, back = pullback(conv, x, weight)
    return y, back(dy)...
end

function agreement(ours, theirs, x, weight)
    dy = randn(StableRNG(5), eltype(x), size(theirs(x, weight)))
    pairs = zip(with_gradients(ours, x, weight, dy), with_gradients(theirs, x, weight, dy))
    return maximum(deviation(found, wanted) for (found, wanted) in pairs)
end

@testset "depthwise is NNlib's unflipped grouped convolution: $T $size $stride $padding" for
    T in (Float32, Float64),
    size in ((7, 5), (6, 9), (2, 2), (1, 1)),
    (stride, padding) in
    ((1, (1, 1)), (2, (1, 1)), (1, (2, 2)), (2, (2, 2)), (2, (0, 1)), (1, (2, 0)), (2, (0, 2))),
    batch in (1, 3)

    size == (1, 1) && sum(padding) < 2 && continue
    rng = StableRNG(1)
    x, weight = randn(rng, T, size..., 4, batch), randn(rng, T, 3, 3, 1, 4)
    theirs(x, weight) = dense_conv(x, weight, stride, padding, 4)
    @test agreement((x, w) -> depthwise(x, w, stride, padding), theirs, x, weight) < 30eps(T)
end

@testset "pointwise is NNlib's 1x1 convolution: $T $size" for
    T in (Float32, Float64), size in ((7, 5), (1, 1)), batch in (1, 3)

    rng = StableRNG(2)
    x, weight = randn(rng, T, size..., 5, batch), randn(rng, T, 1, 1, 5, 4)
    @test agreement(pointwise, (x, w) -> dense_conv(x, w, 1, (0, 0), 1), x, weight) < 30eps(T)
end

@testset "the kernel is not flipped" begin
    x = zeros(3, 3, 1, 1)
    x[2, 2] = 1
    weight = reshape(collect(1.0:9.0), 3, 3, 1, 1)
    @test depthwise(x, weight, 1, (1, 1)) == reverse(weight; dims=(1, 2))
    @test dense_conv(x, weight, 1, (1, 1), 1) == reverse(weight; dims=(1, 2))
end

@testset "zeros come before and after" begin
    x, weight = ones(2, 2, 1, 1), ones(3, 3, 1, 1)
    weight[1] = 10 # on the first pixel where nothing is before it
    for conv in (depthwise, (args...) -> dense_conv(args..., 1))
        @test only(conv(x, weight, 2, (0, 1))) == 13
        @test only(conv(x, weight, 2, (1, 0))) == 4
    end
end

@testset "gradients are the finite differences: stride $stride, padding $padding" for
    (stride, padding) in ((1, (1, 1)), (2, (1, 1)), (2, (0, 1)), (1, (0, 2)))

    rng = StableRNG(3)
    for (conv, weight, channels) in (
        ((x, w) -> depthwise(x, w, stride, padding), randn(rng, 3, 3, 1, 2), 2),
        ((x, w) -> dense_conv(x, w, stride, padding, 1), randn(rng, 3, 3, 3, 2), 3),
        (pointwise, randn(rng, 1, 1, 3, 2), 3),
    )
        x = randn(rng, 5, 4, channels, 2)
        dy = randn(rng, size(conv(x, weight)))
        _, dx, dweight = with_gradients(conv, x, weight, dy)
        @test deviation(dx, differences(() -> sum(conv(x, weight) .* dy), x)) < 1e-8
        @test deviation(dweight, differences(() -> sum(conv(x, weight) .* dy), weight)) < 1e-8
    end
end
