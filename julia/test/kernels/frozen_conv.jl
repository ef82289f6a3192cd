# The convolutions of frozen models, against plain ones. On processors without wide vectors LLVM splits them into two
# narrow ones, so that both are tested everywhere.
using Flux: NNlib
using MobileNets.Kernels: NARROW, PANEL_TILE_VALUES, WIDE, ClampActivation, DepthwiseConv, PackedPanels,
    PackedTaps, PooledWorkspace, TapLayout, UnitOptions, conv_dims, conv_kind, convolve_frozen!, correlate_lines!,
    from_channels_last, has_wide_vectors, lanes_for_channels, lanes_type, multiply_panels!, output_dims, pack_weight,
    to_channels_last

include("geometries.jl")

"The frozen convolution of `x` (W, H, C, N), as maps (W, H, O, N)."
function frozen_convolution(x, weight, bias, activation, options, V)
    kind = conv_kind(weight, size(x, 3), options)
    maps, workspace = to_channels_last(x), PooledWorkspace()
    y = fill(eltype(x)(NaN), output_dims(kind, maps, size(weight, 4)))
    convolve_frozen!(y, maps, pack_weight(kind, weight, bias, V), activation, kind, workspace)
    return from_channels_last(y)
end

@testset "panels: $inputs values, $outputs outputs, $pixels pixels, $T, vectors of $bits bits" for
    T in (Float32, Float64), bits in (NARROW, WIDE), inputs in (1, 3, 17, 256, 300), outputs in (1, 4, 8, 19, 40),
    pixels in (1, 3, 4, 5, 6, 7, 12, 13, 31)

    rng = StableRNG(1)
    matrix, bias, x = randn(rng, T, inputs, outputs), randn(rng, T, outputs), randn(rng, T, inputs, pixels)
    panels, expected = PackedPanels(matrix, bias, lanes_type(T, bits)), matrix' * x .+ bias
    y = fill(T(NaN), outputs, pixels + 2)
    taps, all_panels = TapLayout(1, inputs, 0, 0, inputs), axes(panels.weight, 2)
    multiply_panels!(y, panels, x, taps, ClampActivation{T}(nothing), 2:(pixels + 1), all_panels)
    @test deviation(y[:, 2:(pixels + 1)], expected) < 100eps(T)
    @test all(isnan, y[:, [1, end]])
    clipped = fill(T(NaN), outputs, pixels)
    multiply_panels!(clipped, panels, x, taps, ClampActivation{T}(1), 1:pixels, all_panels)
    @test clipped == clamp.(y[:, 2:(pixels + 1)], 0, 1)
end

@testset "pixels beyond the first tile: $T, vectors of $bits bits" for T in (Float32, Float64), bits in (NARROW, WIDE)
    inputs, outputs, V = 300, 19, lanes_type(T, bits)
    rng, options = StableRNG(3), geometry(1, (0, 0), 1)
    x, weight = randn(rng, T, 37, 19, inputs, 2), randn(rng, T, 1, 1, inputs, outputs)
    @test 37 * 19 * 2 ÷ Threads.nthreads() > 2PANEL_TILE_VALUES ÷ inputs || Threads.nthreads() > 2
    bias = randn(rng, T, outputs)
    expected = NNlib.conv(x, weight, conv_dims(x, weight, options)) .+ reshape(bias, 1, 1, :)
    @test deviation(frozen_convolution(x, weight, bias, ClampActivation{T}(nothing), options, V), expected) < 100eps(T)
end

@testset "other panels are not written" begin
    x, y = ones(Float32, 2, 7), zeros(Float32, 20, 7)
    panels = PackedPanels(ones(Float32, 2, 20), zeros(Float32, 20), lanes_type(Float32, NARROW))
    multiply_panels!(y, panels, x, TapLayout(1, 2, 0, 0, 2), ClampActivation{Float32}(nothing), 1:7, 2:2)
    @test all(==(2), y[9:16, :]) && sum(y) == 2 * 8 * 7
end

@testset "panels out of bounds are rejected: $name" for (name, taps, columns, panel_numbers) in (
    ("one value too far", TapLayout(1, 2, 0, 1, 2), 1:7, 1:1),
    ("before the first", TapLayout(1, 2, 0, -1, 2), 1:6, 1:1),
    ("other inputs", TapLayout(1, 1, 0, 0, 2), 1:7, 1:1),
    ("rows beyond the last", TapLayout(2, 1, 14, 0, 2), 1:7, 1:1),
    ("columns beyond the last", TapLayout(1, 2, 0, 0, 2), 2:8, 1:1),
    ("panels beyond the last", TapLayout(1, 2, 0, 0, 2), 1:7, 1:2),
)
    panels, x, y = PackedPanels(ones(2, 4), zeros(4), lanes_type(Float64, NARROW)), ones(2, 7), zeros(4, 7)
    activation = ClampActivation{Float64}(nothing)
    @test_throws DimensionMismatch multiply_panels!(y, panels, x, taps, activation, columns, panel_numbers)
    @test iszero(y)
end

@testset "frozen convolutions: $T, maps $size, stride $stride, padding $padding, batch $batch, $bits bits" for
    T in (Float32, Float64), size in SIZES, (stride, padding) in GEOMETRIES, batch in (1, 3), bits in (NARROW, WIDE)

    minimum(size) + sum(padding) < 3 && continue
    rng = StableRNG(2)
    for (inputs, outputs, groups) in ((3, 8, 1), (1, 5, 1), (5, 5, 5), (8, 8, 8), (21, 21, 21))
        x, weight = randn(rng, T, size..., inputs, batch), randn(rng, T, 3, 3, inputs ÷ groups, outputs)
        bias, options = randn(rng, T, outputs), geometry(stride, padding, groups)
        expected = NNlib.conv(x, weight, conv_dims(x, weight, options)) .+ reshape(bias, 1, 1, :)
        unclipped = frozen_convolution(x, weight, bias, ClampActivation{T}(nothing), options, lanes_type(T, bits))
        @test deviation(unclipped, expected) < 100eps(T)
        clipped = frozen_convolution(x, weight, bias, ClampActivation{T}(1), options, lanes_type(T, bits))
        @test clipped == clamp.(unclipped, 0, 1)
    end
end

@testset "taps out of bounds are rejected: $name" for (name, size, lines, stride, kernel, channels) in (
    ("too few rows", (5, 4, 3, 2), 1:8, 1, 3, 5),
    ("too few columns", (5, 3, 4, 2), 1:8, 1, 3, 5),
    ("other channels", (6, 4, 4, 2), 1:8, 1, 3, 6),
    ("an image beyond the last", (5, 4, 4, 1), 1:8, 1, 3, 5),
    ("a line beyond the last", (5, 4, 4, 2), 8:9, 1, 3, 5),
    ("a line before the first", (5, 4, 4, 2), 0:1, 1, 3, 5),
    ("another stride", (5, 4, 4, 2), 1:8, 2, 3, 5),
    ("another kernel", (5, 4, 4, 2), 1:8, 1, 5, 5),
    ("other panels", (5, 4, 4, 2), 1:8, 1, 3, 9),
)
    taps = PackedTaps(ones(3, 3, 1, channels), zeros(channels), lanes_type(Float64, NARROW))
    y, activation, conv = zeros(5, 4, 4, 2), ClampActivation{Float64}(nothing), DepthwiseConv(kernel, stride, (1, 1))
    kernel_and_stride = (Val(kernel), Val(stride))
    @test_throws DimensionMismatch correlate_lines!(y, ones(size), taps, activation, conv, lines, kernel_and_stride...)
    @test iszero(y)
end

@testset "other lines are not written" begin
    taps = PackedTaps(ones(3, 3, 1, 5), zeros(5), lanes_type(Float64, NARROW))
    y, conv = zeros(5, 4, 4, 2), DepthwiseConv(3, 1, (1, 1))
    correlate_lines!(y, ones(5, 4, 4, 2), taps, ClampActivation{Float64}(nothing), conv, 4:5, Val(3), Val(1))
    lines = reshape(y, 5, 4, 8)
    @test all(>(0), lines[:, :, 4:5]) && count(>(0), y) == 2 * 5 * 4
end

@testset "NaN stays NaN" begin
    x, weight = fill(NaN, 1, 1, 3, 7), ones(1, 1, 3, 4)
    V = lanes_type(Float64, NARROW)
    @test all(isnan, frozen_convolution(x, weight, zeros(4), ClampActivation{Float64}(6), geometry(1, (0, 0), 1), V))
end

@testset "vectors are wide if the processor has wide ones and the channels fill them" begin
    bits(T, channels) = 8sizeof(lanes_for_channels(T, channels))
    wide = has_wide_vectors() ? WIDE : NARROW
    @test bits.(Float32, (16, 48, 8, 24, 5)) == (wide, wide, NARROW, NARROW, NARROW)
    @test bits.(Float64, (8, 24, 4, 12, 5)) == (wide, wide, NARROW, NARROW, NARROW)
    @test eltype(PackedPanels(ones(Float32, 3, 32), zeros(Float32, 32)).weight) == lanes_type(Float32, wide)
end
