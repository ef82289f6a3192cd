# The fast convolutions by themselves, against NNlib's; the arrays here are (W, H, C, N).
using MobileNets: MobileNets, NNlib, UnitOptions, channels_first, channels_last, conv_dims, conv_kind

geometry(stride, padding, groups) =
    UnitOptions(stride, padding, groups, 1e-5, nothing, nothing, nothing, true)

"Output, gradient of `x` and of `weight` for the gradient `dy` of the output."
function by_nnlib(x, weight, dy, options)
    dims = conv_dims(x, weight, options)
    y = NNlib.conv(x, weight, dims)
    dy = isnothing(dy) ? y : dy
    return y, NNlib.∇conv_data(dy, weight, dims), NNlib.∇conv_filter(x, dy, dims)
end

function by_fast_kernels(x, weight, dy, options; room=MobileNets.Fresh())
    kind, maps = conv_kind(weight, size(x, 3), options), channels_first(x)
    y = fill(eltype(x)(NaN), MobileNets.output_dims(kind, maps, size(weight, 4)))
    finished = zeros(Int, length(y) ÷ size(y, 1)) # how often; far below 0 where it should not have been
    ready = MobileNets.prepared(kind, weight, room)
    parts = MobileNets.convolve_parts(kind, y, ready)
    MobileNets.convolve!(y, maps, ready, kind, room) do part, range
        is_right = 1 <= part <= parts && !any(isnan, MobileNets.pixels(y)[:, range])
        finished[range] .+= is_right ? 1 : typemin(Int) ÷ 2
    end
    @test all(==(1), finished)
    gradient = isnothing(dy) ? y : channels_first(dy)
    slopes(c, k) = gradient[k]
    dweight = similar(weight)
    dx = MobileNets.unthunk(
        MobileNets.convolve_pullback!(dweight, slopes, maps, weight, kind, room)
    )
    return channels_last(y), channels_last(dx), dweight
end

function agreement(x, weight, stride, padding, groups)
    options = geometry(stride, padding, groups)
    dy = randn(StableRNG(5), eltype(x), size(first(by_nnlib(x, weight, nothing, options))))
    pairs = zip(by_fast_kernels(x, weight, dy, options), by_nnlib(x, weight, dy, options))
    return maximum(deviation(found, wanted) for (found, wanted) in pairs)
end

const SIZES = ((7, 5), (6, 9), (2, 2), (1, 1), (33, 32))
const GEOMETRIES = (
    (1, (1, 1)), (2, (1, 1)), (1, (2, 2)), (2, (2, 2)), (2, (0, 1)), (1, (2, 0)), (2, (0, 2)), (3, (1, 0)),
)

@testset "depthwise: $T, maps $size, stride $stride, padding $padding, batch $batch" for
    T in (Float32, Float64), size in SIZES, (stride, padding) in GEOMETRIES, batch in (1, 3)

    minimum(size) + sum(padding) < 3 && continue
    rng = StableRNG(1)
    for channels in (1, 5, 8, 16, 21, 40)
        x, weight = randn(rng, T, size..., channels, batch), randn(rng, T, 3, 3, 1, channels)
        @test agreement(x, weight, stride, padding, channels) < 30eps(T)
    end
end

@testset "dense: $T, maps $size, stride $stride, padding $padding, batch $batch" for
    T in (Float32, Float64), size in SIZES, (stride, padding) in GEOMETRIES, batch in (1, 3)

    minimum(size) + sum(padding) < 3 && continue
    rng = StableRNG(2)
    for (inputs, outputs) in ((3, 8), (1, 5), (2, 1))
        x, weight = randn(rng, T, size..., inputs, batch), randn(rng, T, 3, 3, inputs, outputs)
        @test agreement(x, weight, stride, padding, 1) < 100eps(T)
    end
end

@testset "kernels of $kernel" for kernel in (2, 5)
    rng = StableRNG(3)
    x = randn(rng, 9, 7, 6, 2)
    @test agreement(x, randn(rng, kernel, kernel, 1, 6), 2, (1, 0), 6) < 1e-13
    @test agreement(x, randn(rng, kernel, kernel, 6, 4), 2, (1, 0), 1) < 1e-13
end

@testset "pointwise: $T, maps $size, batch $batch" for
    T in (Float32, Float64), size in (SIZES..., (30, 40)), batch in (1, 3)

    rng = StableRNG(4)
    for (inputs, outputs) in ((5, 4), (1, 1), (16, 40), (200, 170)) # the last for several threads
        x, weight = randn(rng, T, size..., inputs, batch), randn(rng, T, 1, 1, inputs, outputs)
        @test agreement(x, weight, 1, (0, 0), 1) < 100eps(T)
    end
end

@testset "the kernel is not flipped" begin
    x = zeros(3, 3, 1, 1)
    x[2, 2] = 1
    weight = reshape(collect(1.0:9.0), 3, 3, 1, 1)
    y, _, _ = by_fast_kernels(x, weight, nothing, geometry(1, (1, 1), 1))
    @test y == reverse(weight; dims=(1, 2))
    wide, kernels = repeat(x, 1, 1, 2, 1), repeat(weight, 1, 1, 1, 2)
    y, _, _ = by_fast_kernels(wide, kernels, nothing, geometry(1, (1, 1), 2))
    @test y[:, :, 2:2, :] == reverse(weight; dims=(1, 2))
end

@testset "zeros come before and after" begin
    x, weight = ones(2, 2, 2, 1), ones(3, 3, 1, 2)
    weight[1] = 10 # on the first pixel where nothing is before it
    first_of(padding) = by_fast_kernels(x, weight, nothing, geometry(2, padding, 2))[1][1]
    @test first_of((0, 1)) == 13
    @test first_of((1, 0)) == 4
end

@testset "gradients are the finite differences: stride $stride, padding $padding" for
    (stride, padding) in ((1, (1, 1)), (2, (1, 1)), (2, (0, 1)), (1, (0, 2)))

    rng = StableRNG(3)
    for (weight, groups) in ((randn(rng, 3, 3, 1, 3), 3), (randn(rng, 3, 3, 3, 2), 1))
        x, options = randn(rng, 5, 4, 3, 2), geometry(stride, padding, groups)
        dy = randn(rng, size(first(by_nnlib(x, weight, nothing, options))))
        _, dx, dweight = by_fast_kernels(x, weight, dy, options)
        loss() = sum(first(by_fast_kernels(x, weight, dy, options)) .* dy)
        @test deviation(dx, differences(loss, x; stride=7)) < 1e-8
        @test deviation(dweight, differences(loss, weight; stride=5)) < 1e-8
    end
end

@testset "a workspace's used arrays change nothing" begin
    rng, room = StableRNG(6), Workspace()
    for _ in 1:3, (stride, groups) in ((1, 1), (2, 1), (1, 5), (2, 5))
        x, weight = randn(rng, 9, 7, 5, 3), randn(rng, 3, 3, 5 ÷ groups, 5)
        options = geometry(stride, (1, 1), groups)
        again = by_fast_kernels(x, weight, nothing, options; room)
        @test again == by_fast_kernels(x, weight, nothing, options)
        MobileNets.reset!(room, size(x))
    end
end

@testset "what the fast kernels cannot do they refuse by name" begin
    x, weight = randn(5, 5, 4, 1), randn(3, 3, 2, 8)
    refusal = message(() -> by_fast_kernels(x, weight, nothing, geometry(1, (1, 1), 2)), ConfigError)
    @test occursin("Received: weight (3, 3, 2, 8), groups 2, padding (1, 1), 4 channels", refusal)
end
