using MobileNets: Configs, Data, Files, Kernels, MobileNets, Models, Philox, Training

const TINY = MobileNetConfig(; width_mult=0.1, resolution=32, num_classes=7, stem_stride=1)
const TINY_V2 = MobileNetConfig(;
    family=:v2, width_mult=0.1, rounding=:nearest, resolution=32, num_classes=7, stem_stride=1,
    padding=:keras, softmax=true,
)
const TINY_BOTTLENECK = MobileNetConfig(;
    family=:v1_bottleneck, resolution=32, num_classes=7, stem_stride=1, bottleneck_ratio=0.5,
    activation=:relu,
)

"A file of test vectors, which Python's test suite reads too."
vectors(name) = Configs.JSON.parsefile(joinpath(@__DIR__, "vectors", "$name.json"))

"The message of the error that `f` throws, which must be of type `E`."
function message(f, ::Type{E}) where {E}
    error = try
        f()
        nothing
    catch caught
        caught
    end
    @test error isa E
    return error isa E ? error.msg : ""
end

"Random images (W, H, C, batch) of `size`, and labels."
function example(T; config=TINY, size=(9, 7), batch=3, seed=1)
    rng = StableRNG(seed)
    x = randn(rng, T, size..., config.in_channels, batch)
    return x, rand(rng, 0:(config.num_classes - 1), batch)
end

"""
The gradient of the Float64 function `f` at `x` by central differences, for every `stride`th entry; the others are
`NaN`.
"""
function finite_differences(f, x; step=1e-5, stride=1)
    gradient = fill(NaN, size(x))
    for k in eachindex(x)[1:stride:end]
        value = x[k]
        x[k] = value + step
        above = f()
        x[k] = value - step
        below = f()
        x[k] = value
        gradient[k] = (above - below) / 2step
    end
    return gradient
end

"The largest difference where `expected` is not NaN, relative to its largest entry."
function deviation(actual, expected)
    known = .!isnan.(expected)
    return maximum(abs, (actual .- expected)[known]) / max(maximum(abs, expected[known]), 1e-3)
end

"The norm of the difference relative to the norm of `expected`; 0 where the two are equal."
relative_error(actual, expected) =
    actual == expected ? 0.0 : Files.norm(actual - expected) / Files.norm(expected)
