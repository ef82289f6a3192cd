# Conversion from and to Metalhead's models, computation on a device (device.jl), and models of Lux in comparisons
# (lux.jl). These packages are not dependencies, so the tests have their own project:
#
#     julia --project=julia/test/peers -e 'using Pkg; Pkg.develop(path="julia"); Pkg.instantiate()'
#     julia --project=julia/test/peers julia/test/peers/runtests.jl

using Flux: Flux, BatchNorm
using JLD2: JLD2
using LinearAlgebra: norm
using Metalhead: Metalhead
using MobileNets
using StableRNGs: StableRNG
using Test

relative_error(actual, expected) = norm(actual - expected) / norm(expected)

"The peer with random norms and biases, in test mode."
function randomise!(peer, rng)
    for layer in Flux.modules(peer)
        layer isa BatchNorm && (layer.β .= 0.3f0 .* randn(rng, Float32, layer.chs))
        layer isa BatchNorm && (layer.γ .= 1 .+ 0.3f0 .* randn(rng, Float32, layer.chs))
        layer isa BatchNorm && (layer.μ .= 0.3f0 .* randn(rng, Float32, layer.chs))
        layer isa BatchNorm && (layer.σ² .= 0.5f0 .+ rand(rng, Float32, layer.chs))
        layer isa Flux.Dense && (layer.bias .= 1f-3 .* randn(rng, Float32, length(layer.bias)))
    end
    return Flux.testmode!(peer)
end

"The peer in `Float64`, with its eps, which `Flux.f64` does not convert."
doubled(peer) = Flux.fmap(Flux.f64(peer); exclude=layer -> layer isa BatchNorm) do layer
    layer isa BatchNorm || return layer
    (; λ, β, γ, μ, σ², affine, track_stats, active, chs) = layer
    return BatchNorm(λ, β, γ, μ, σ², 1e-5, 0.1, affine, track_stats, active, chs)
end

peers = [
    (Metalhead.MobileNetv1, :v1, 1, 0.0), (Metalhead.MobileNetv1, :v1, 0.5, 0.0),
    (Metalhead.MobileNetv1, :v1, 0.6, 0.0), (Metalhead.MobileNetv2, :v2, 1, 0.2),
    (Metalhead.MobileNetv2, :v2, 0.5, 0.2),
]

@testset "$(nameof(kind)) at width $width" for (kind, family, width, dropout) in peers
    rng = StableRNG(7)
    peer = randomise!(kind(width; nclasses=10), rng)
    path = joinpath(mktempdir(), "peer.jld2")
    JLD2.jldsave(path; model_state=Flux.state(peer))
    model = MobileNets.load(path)
    (; config) = model
    expected = MobileNetConfig(; family, width_mult=width, num_classes=10, dropout,
        rounding=width == 0.6 || family == :v2 ? :multiple_of_8 : :floor)
    @test config == expected
    x = randn(rng, Float32, 224, 224, 3, 1)
    @test relative_error(predict(model, x), peer(x)) < 1e-4
    state = Dict(name => Float64.(array) for (name, array) in get_state(model))
    wide = MobileNets.Models.model_from_state(config, Dict{String,Array}(state))
    error = relative_error(predict(wide, Float64.(x)), doubled(peer)(Float64.(x)))
    @info "$(nameof(kind)) $width: Float32 $(relative_error(predict(model, x), peer(x))), Float64 $error"
    @test error < 1e-13
    fresh = Flux.testmode!(kind(width; nclasses=10))
    MobileNets.load_flux!(fresh, model)
    @test fresh(x) == peer(x)
end

@testset "Metalhead's V2 with a width above 1, whose head is not scaled, is rejected" begin
    peer = Metalhead.MobileNetv2(1.4; nclasses=10)
    @test_throws WeightsError MobileNets.infer_config(Flux.state(peer))
end

include("device.jl")
include("lux.jl")
