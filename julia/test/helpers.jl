using MobileNets: MobileNets

const TINY = MobileNetConfig(; width_mult=0.1, resolution=32, num_classes=7, stem_stride=1)
const TINY_V2 = MobileNetConfig(;
    family="v2", width_mult=0.1, rounding="nearest", resolution=32, num_classes=7, stem_stride=1,
    padding="keras", softmax=true,
)
const TINY_BOTTLENECK = MobileNetConfig(;
    family="v1_bottleneck", resolution=32, num_classes=7, stem_stride=1, bottleneck_ratio=0.5,
    activation="relu",
)

vectors(name) = MobileNets.JSON.parsefile(joinpath(@__DIR__, "vectors", "$name.json"))

"The error `f` throws, which must be of `kind`, as text."
function message(f, kind)
    error = try
        f()
        nothing
    catch caught
        caught
    end
    @test error isa kind
    return error isa kind ? error.msg : ""
end

function example(T; config=TINY, size=(9, 7), batch=3, seed=1)
    rng = StableRNG(seed)
    x = randn(rng, T, size..., config.in_channels, batch)
    return x, rand(rng, 0:(config.num_classes - 1), batch)
end

"""
The gradient of the Float64 function `f` at `x` by central differences, for every `stride`th entry; the
rest is `NaN`.
"""
function differences(f, x; step=1e-5, stride=1)
    gradient = fill(NaN, size(x))
    for k in eachindex(x)[1:stride:end]
        kept = x[k]
        x[k] = kept + step
        above = f()
        x[k] = kept - step
        below = f()
        x[k] = kept
        gradient[k] = (above - below) / 2step
    end
    return gradient
end

"Largest difference where `wanted` is known, relative to its largest entry."
function deviation(found, wanted)
    known = .!isnan.(wanted)
    return maximum(abs, (found .- wanted)[known]) / max(maximum(abs, wanted[known]), 1e-3)
end
