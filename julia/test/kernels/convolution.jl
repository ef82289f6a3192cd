# The fast convolutions, against NNlib's. Arrays are (W, H, C, N).
using Flux: NNlib
using MobileNets.Kernels: AllocatingWorkspace, UnitOptions, conv_chunk_count, conv_dims, conv_kind, convolve!,
    convolve_pullback!, from_channels_last, output_dims, pixels, prepare_weight, reset!, to_channels_last, unthunk

include("geometries.jl")

"Output, and the gradients of `x` and `weight` for the gradient `dy` of the output."
function with_nnlib(x, weight, dy, options)
    dims = conv_dims(x, weight, options)
    y = NNlib.conv(x, weight, dims)
    dy = isnothing(dy) ? y : dy
    return y, NNlib.∇conv_data(dy, weight, dims), NNlib.∇conv_filter(x, dy, dims)
end

function with_fast_kernels(x, weight, dy, options; workspace=AllocatingWorkspace())
    kind, maps = conv_kind(weight, size(x, 3), options), to_channels_last(x)
    y = fill(eltype(x)(NaN), output_dims(kind, maps, size(weight, 4)))
    completed = zeros(Int, length(y) ÷ size(y, 1)) # calls of the epilogue for each pixel; negative after a wrong call
    prepared = prepare_weight(kind, weight, workspace)
    chunks = conv_chunk_count(kind, y, prepared)
    convolve!(y, maps, prepared, kind, workspace) do chunk, range
        is_correct = 1 <= chunk <= chunks && !any(isnan, pixels(y)[:, range])
        completed[range] .+= is_correct ? 1 : typemin(Int) ÷ 2
    end
    @test all(==(1), completed)
    gradient = isnothing(dy) ? y : to_channels_last(dy)
    activation_gradient(c, k) = gradient[k]
    dweight = similar(weight)
    dx = unthunk(convolve_pullback!(dweight, activation_gradient, maps, weight, kind, workspace))
    return from_channels_last(y), from_channels_last(dx), dweight
end

function largest_deviation(x, weight, stride, padding, groups)
    options = geometry(stride, padding, groups)
    dy = randn(StableRNG(5), eltype(x), size(first(with_nnlib(x, weight, nothing, options))))
    pairs = zip(with_fast_kernels(x, weight, dy, options), with_nnlib(x, weight, dy, options))
    return maximum(deviation(actual, expected) for (actual, expected) in pairs)
end

@testset "depthwise: $T, maps $size, stride $stride, padding $padding, batch $batch" for
    T in (Float32, Float64), size in SIZES, (stride, padding) in GEOMETRIES, batch in (1, 3)

    minimum(size) + sum(padding) < 3 && continue
    rng = StableRNG(1)
    for channels in (1, 5, 8, 16, 21, 40)
        x, weight = randn(rng, T, size..., channels, batch), randn(rng, T, 3, 3, 1, channels)
        @test largest_deviation(x, weight, stride, padding, channels) < 30eps(T)
    end
end

@testset "dense: $T, maps $size, stride $stride, padding $padding, batch $batch" for
    T in (Float32, Float64), size in SIZES, (stride, padding) in GEOMETRIES, batch in (1, 3)

    minimum(size) + sum(padding) < 3 && continue
    rng = StableRNG(2)
    for (inputs, outputs) in ((3, 8), (1, 5), (2, 1))
        x, weight = randn(rng, T, size..., inputs, batch), randn(rng, T, 3, 3, inputs, outputs)
        @test largest_deviation(x, weight, stride, padding, 1) < 100eps(T)
    end
end

@testset "kernels of $kernel" for kernel in (2, 5)
    rng = StableRNG(3)
    x = randn(rng, 9, 7, 6, 2)
    @test largest_deviation(x, randn(rng, kernel, kernel, 1, 6), 2, (1, 0), 6) < 1e-13
    @test largest_deviation(x, randn(rng, kernel, kernel, 6, 4), 2, (1, 0), 1) < 1e-13
end

@testset "pointwise: $T, maps $size, batch $batch" for
    T in (Float32, Float64), size in (SIZES..., (30, 40)), batch in (1, 3)

    rng = StableRNG(4)
    for (inputs, outputs) in ((5, 4), (1, 1), (16, 40), (200, 170)) # the last on several threads
        x, weight = randn(rng, T, size..., inputs, batch), randn(rng, T, 1, 1, inputs, outputs)
        @test largest_deviation(x, weight, 1, (0, 0), 1) < 100eps(T)
    end
end

@testset "the kernel is not flipped" begin
    x = zeros(3, 3, 1, 1)
    x[2, 2] = 1
    weight = reshape(collect(1.0:9.0), 3, 3, 1, 1)
    y, _, _ = with_fast_kernels(x, weight, nothing, geometry(1, (1, 1), 1))
    @test y == reverse(weight; dims=(1, 2))
    wide, kernels = repeat(x, 1, 1, 2, 1), repeat(weight, 1, 1, 1, 2)
    y, _, _ = with_fast_kernels(wide, kernels, nothing, geometry(1, (1, 1), 2))
    @test y[:, :, 2:2, :] == reverse(weight; dims=(1, 2))
end

@testset "padding is (before, after)" begin
    x, weight = ones(2, 2, 2, 1), ones(3, 3, 1, 2)
    weight[1] = 10 # at the first pixel if there is no padding before it
    first_of(padding) = with_fast_kernels(x, weight, nothing, geometry(2, padding, 2))[1][1]
    @test first_of((0, 1)) == 13
    @test first_of((1, 0)) == 4
end

@testset "gradients are finite differences: stride $stride, padding $padding" for
    (stride, padding) in ((1, (1, 1)), (2, (1, 1)), (2, (0, 1)), (1, (0, 2)))

    rng = StableRNG(3)
    for (weight, groups) in ((randn(rng, 3, 3, 1, 3), 3), (randn(rng, 3, 3, 3, 2), 1))
        x, options = randn(rng, 5, 4, 3, 2), geometry(stride, padding, groups)
        dy = randn(rng, size(first(with_nnlib(x, weight, nothing, options))))
        _, dx, dweight = with_fast_kernels(x, weight, dy, options)
        loss() = sum(first(with_fast_kernels(x, weight, dy, options)) .* dy)
        @test deviation(dx, finite_differences(loss, x; stride=7)) < 1e-8
        @test deviation(dweight, finite_differences(loss, weight; stride=5)) < 1e-8
    end
end

@testset "reused arrays of a workspace do not change results" begin
    rng, workspace = StableRNG(6), Workspace()
    for _ in 1:3, (stride, groups) in ((1, 1), (2, 1), (1, 5), (2, 5))
        x, weight = randn(rng, 9, 7, 5, 3), randn(rng, 3, 3, 5 ÷ groups, 5)
        options = geometry(stride, (1, 1), groups)
        reused = with_fast_kernels(x, weight, nothing, options; workspace)
        @test reused == with_fast_kernels(x, weight, nothing, options)
        reset!(workspace, size(x))
    end
end

@testset "convolutions that the fast kernels do not support are rejected" begin
    x, weight = randn(5, 5, 4, 1), randn(3, 3, 2, 8)
    text = message(() -> with_fast_kernels(x, weight, nothing, geometry(1, (1, 1), 2)), ConfigError)
    @test occursin("Received: weight (3, 3, 2, 8), groups 2, padding (1, 1), 4 channels", text)
end
