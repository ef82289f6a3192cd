# The fast unit (convolution, norm, activation) against the reference, values and gradients.
using MobileNets.Kernels: AllocatingWorkspace, FastKernels, ReferenceKernels, UnitOptions, conv_norm_act,
    images_to_maps, maps_to_images
using Flux: Flux


const FAST, REFERENCE = FastKernels(AllocatingWorkspace()), ReferenceKernels()

"Output of a unit, and the gradients of all arrays, as (W, H, C, N), for the gradient `dy` of the output."
function run_unit(kernels, arrays, dy, options)
    (; mask) = options
    isnothing(mask) || (mask = images_to_maps(kernels, mask))
    fields = (getfield(options, name) for name in fieldnames(UnitOptions) if name != :mask)
    (stride, padding, groups, eps, clip_value, statistics, keep_conv) = fields
    own = UnitOptions(stride, padding, groups, eps, clip_value, statistics, mask, keep_conv)
    function unit(x, rest...)
        y, = conv_norm_act(kernels, images_to_maps(kernels, x), rest..., own)
        return y
    end
    y, back = Flux.pullback(unit, arrays...)
    gradients = isnothing(dy) ? () : back(images_to_maps(kernels, dy))
    return maps_to_images(kernels, y), gradients...
end

function example_unit(T, kernel, groups, train)
    rng, channels = StableRNG(1), 12
    x = randn(rng, T, 7, 6, channels, 3)
    weight = randn(rng, T, kernel, kernel, channels ÷ groups, 12)
    norm_weight, norm_bias = 3 .* randn(rng, T, 12), 2 .+ randn(rng, T, 12)
    statistics = train ? nothing : (randn(rng, T, 12), 1 .+ rand(rng, T, 12))
    return (x, weight, norm_weight, norm_bias), statistics
end

const UNITS = ("pointwise" => (1, 1, (0, 0)), "depthwise" => (3, 12, (1, 1)), "dense" => (3, 1, (0, 1)))

@testset "$name unit: $T, train $train, clip value $clip_value, masked $masked" for
    (name, (kernel, groups, padding)) in UNITS, T in (Float32, Float64), train in (false, true),
    (clip_value, masked) in ((6.0, false), (Inf, false), (nothing, false), (6.0, true))

    arrays, statistics = example_unit(T, kernel, groups, train)
    stride = kernel == 3 ? 2 : 1
    options(mask) = UnitOptions(stride, padding, groups, 1e-3, clip_value, statistics, mask, true)
    y, = run_unit(REFERENCE, arrays, nothing, options(nothing))
    mask = masked ? rand(StableRNG(2), UInt8.(0:2), size(y)) : nothing
    dy = randn(StableRNG(3), T, size(y))
    pairs = zip(run_unit(FAST, arrays, dy, options(mask)), run_unit(REFERENCE, arrays, dy, options(mask)))
    @test maximum(deviation(actual, expected) for (actual, expected) in pairs) < 300eps(T)
end

@testset "gradients are finite differences: $name, train $train" for
    (name, (kernel, groups, padding)) in UNITS, train in (false, true)

    arrays, statistics = example_unit(Float64, kernel, groups, train)
    free = UnitOptions(1, padding, groups, 1e-3, 6.0, statistics, nothing, true)
    y, = run_unit(REFERENCE, arrays, nothing, free)
    mask = UInt8.(ifelse.(y .== 6, 2, y .> 0)) # smooth, because no kink is crossed
    options = UnitOptions(1, padding, groups, 1e-3, 6.0, statistics, mask, true)
    dy = randn(StableRNG(4), size(y))
    for kernels in (FAST, REFERENCE)
        loss() = sum(first(run_unit(kernels, arrays, nothing, options)) .* dy)
        _, gradients... = run_unit(kernels, arrays, dy, options)
        for (array, gradient) in zip(arrays, gradients)
            expected = finite_differences(loss, array; stride=max(1, length(array) ÷ 20))
            @test deviation(gradient, expected) < 1e-7
        end
    end
end

@testset "in evaluation mode the output may overwrite the convolution" begin
    arrays, statistics = example_unit(Float32, 3, 12, false)
    maps = images_to_maps(FAST, first(arrays))
    run(keep_conv) = conv_norm_act(
        FAST, maps, arrays[2:4]...,
        UnitOptions(1, (1, 1), 12, 1e-3, 6.0, statistics, nothing, keep_conv),
    )
    (separate, conv, _, _), (y, overwritten, _, _) = run(true), run(false)
    @test y === overwritten && y == separate != conv
end

@testset "models with both kernels agree: $(config.family)" for config in (TINY, TINY_V2, TINY_BOTTLENECK)
    x, labels = example(Float64; config, size=(33, 65), batch=5) # remainders on two threads, no square maps
    fast = MobileNet(config; dtype=Float64)
    reference = MobileNet(config; dtype=Float64, kernels=:reference)
    for train in (false, true)
        pairs = zip(activations(fast, x; train), activations(reference, x; train))
        @test maximum(deviation(last(a), last(b)) for (a, b) in pairs) < 1e-11
    end
    @test predict(fast, x) ≈ predict(reference, x) rtol = 1e-12
    loss, gradients = loss_and_grads(fast, x, labels)
    reference_loss, reference_gradients = loss_and_grads(reference, x, labels)
    @test loss ≈ reference_loss rtol = 1e-12
    largest = maximum(maximum(abs, last(gradient)) for gradient in reference_gradients)
    @test all(zip(gradients, reference_gradients)) do (a, b)
        first(a) == first(b) && maximum(abs, last(a) - last(b)) < 1e-10 * largest
    end
end
