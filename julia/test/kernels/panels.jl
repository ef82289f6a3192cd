# A frozen model's products, against plain ones. LLVM makes two narrow vectors of a wide one where the processor has
# none, so that both are tested everywhere.
using MobileNets: NARROW, WIDE, Clamped, Depthwise, Panels, Reach, TapPanels, convolve_frozen!, correlate_lanes!,
    laid_out, lanes_type, multiply!

"Whole maps of a frozen convolution of `x` (W, H, C, N), (W, H, O, N)."
function frozen_convolution(x, weight, bias, activation, options, V)
    kind = conv_kind(weight, size(x, 3), options)
    maps, room = channels_first(x), MobileNets.Pool()
    y = fill(eltype(x)(NaN), MobileNets.output_dims(kind, maps, size(weight, 4)))
    convolve_frozen!(y, maps, laid_out(kind, weight, bias, V), activation, kind, room)
    return channels_last(y)
end

@testset "panels: $inputs values, $outputs outputs, $pixels pixels, $T, vectors of $bits bits" for
    T in (Float32, Float64), bits in (NARROW, WIDE), inputs in (1, 3, 17, 256, 300), outputs in (1, 4, 8, 19, 40),
    pixels in (1, 3, 4, 5, 6, 7, 12, 13, 31)

    rng = StableRNG(1)
    matrix, bias, x = randn(rng, T, inputs, outputs), randn(rng, T, outputs), randn(rng, T, inputs, pixels)
    panels, wanted = Panels(matrix, bias, lanes_type(T, bits)), matrix' * x .+ bias
    y = fill(T(NaN), outputs, pixels + 2)
    reach, all_panels = Reach(1, inputs, 0, 0, inputs), axes(panels.weight, 2)
    multiply!(y, panels, x, reach, Clamped{T}(nothing), 2:(pixels + 1), all_panels)
    @test deviation(y[:, 2:(pixels + 1)], wanted) < 100eps(T)
    @test all(isnan, y[:, [1, end]])
    clipped = fill(T(NaN), outputs, pixels)
    multiply!(clipped, panels, x, reach, Clamped{T}(1), 1:pixels, all_panels)
    @test clipped == clamp.(y[:, 2:(pixels + 1)], 0, 1)
end

@testset "some of the panels leave the others alone" begin
    x, y = ones(Float32, 2, 7), zeros(Float32, 20, 7)
    panels = Panels(ones(Float32, 2, 20), zeros(Float32, 20), lanes_type(Float32, NARROW))
    multiply!(y, panels, x, Reach(1, 2, 0, 0, 2), Clamped{Float32}(nothing), 1:7, 2:2)
    @test all(==(2), y[9:16, :]) && sum(y) == 2 * 8 * 7
end

@testset "what is out of reach is refused: $name" for (name, reach, columns, which) in (
    ("one value too far", Reach(1, 2, 0, 1, 2), 1:7, 1:1),
    ("before the first", Reach(1, 2, 0, -1, 2), 1:6, 1:1),
    ("other inputs", Reach(1, 1, 0, 0, 2), 1:7, 1:1),
    ("rows beyond the last", Reach(2, 1, 14, 0, 2), 1:7, 1:1),
    ("columns that are not there", Reach(1, 2, 0, 0, 2), 2:8, 1:1),
    ("panels that are not there", Reach(1, 2, 0, 0, 2), 1:7, 1:2),
)
    panels, x, y = Panels(ones(2, 4), zeros(4), lanes_type(Float64, NARROW)), ones(2, 7), zeros(4, 7)
    activation = Clamped{Float64}(nothing)
    @test_throws DimensionMismatch multiply!(y, panels, x, reach, activation, columns, which)
    @test iszero(y)
end

@testset "frozen convolutions: $T, maps $size, stride $stride, padding $padding, batch $batch, $bits bits" for
    T in (Float32, Float64), size in SIZES, (stride, padding) in GEOMETRIES, batch in (1, 3), bits in (NARROW, WIDE)

    minimum(size) + sum(padding) < 3 && continue
    rng = StableRNG(2)
    for (inputs, outputs, groups) in ((3, 8, 1), (1, 5, 1), (5, 5, 5), (8, 8, 8), (21, 21, 21))
        x, weight = randn(rng, T, size..., inputs, batch), randn(rng, T, 3, 3, inputs ÷ groups, outputs)
        bias, options = randn(rng, T, outputs), geometry(stride, padding, groups)
        wanted = NNlib.conv(x, weight, conv_dims(x, weight, options)) .+ reshape(bias, 1, 1, :)
        found = frozen_convolution(x, weight, bias, Clamped{T}(nothing), options, lanes_type(T, bits))
        @test deviation(found, wanted) < 100eps(T)
        @test frozen_convolution(x, weight, bias, Clamped{T}(1), options, lanes_type(T, bits)) == clamp.(found, 0, 1)
    end
end

@testset "what is out of reach of the taps is refused: $name" for (name, size, lines, stride, kernel, channels) in (
    ("too few rows", (5, 4, 3, 2), 1:8, 1, 3, 5),
    ("too few columns", (5, 3, 4, 2), 1:8, 1, 3, 5),
    ("other channels", (6, 4, 4, 2), 1:8, 1, 3, 6),
    ("an image that is not there", (5, 4, 4, 1), 1:8, 1, 3, 5),
    ("a line that is not there", (5, 4, 4, 2), 8:9, 1, 3, 5),
    ("a line before the first", (5, 4, 4, 2), 0:1, 1, 3, 5),
    ("another stride", (5, 4, 4, 2), 1:8, 2, 3, 5),
    ("another kernel", (5, 4, 4, 2), 1:8, 1, 5, 5),
    ("other panels", (5, 4, 4, 2), 1:8, 1, 3, 9),
)
    taps = TapPanels(ones(3, 3, 1, channels), zeros(channels), lanes_type(Float64, NARROW))
    y, activation, conv = zeros(5, 4, 4, 2), Clamped{Float64}(nothing), Depthwise(kernel, stride, (1, 1))
    @test_throws DimensionMismatch correlate_lanes!(y, ones(size), taps, activation, conv, lines, Val(kernel))
    @test iszero(y)
end

@testset "some of the lines leave the others alone" begin
    taps = TapPanels(ones(3, 3, 1, 5), zeros(5), lanes_type(Float64, NARROW))
    y, conv = zeros(5, 4, 4, 2), Depthwise(3, 1, (1, 1))
    correlate_lanes!(y, ones(5, 4, 4, 2), taps, Clamped{Float64}(nothing), conv, 4:5, Val(3))
    lines = reshape(y, 5, 4, 8)
    @test all(>(0), lines[:, :, 4:5]) && count(>(0), y) == 2 * 5 * 4
end

@testset "a value that is not a number stays one" begin
    x, weight = fill(NaN, 1, 1, 3, 7), ones(1, 1, 3, 4)
    V = lanes_type(Float64, NARROW)
    found = frozen_convolution(x, weight, zeros(4), Clamped{Float64}(6), geometry(1, (0, 0), 1), V)
    @test all(isnan, found)
end

@testset "vectors are wide where the processor has such and the channels fill them" begin
    chosen(T, channels) = 8sizeof(MobileNets.lanes_for_channels(T, channels))
    wide = MobileNets.has_wide_vectors() ? WIDE : NARROW
    @test chosen.(Float32, (16, 48, 8, 24, 5)) == (wide, wide, NARROW, NARROW, NARROW)
    @test chosen.(Float64, (8, 24, 4, 12, 5)) == (wide, wide, NARROW, NARROW, NARROW)
    @test eltype(Panels(ones(Float32, 3, 32), zeros(Float32, 32)).weight) == lanes_type(Float32, wide)
end
