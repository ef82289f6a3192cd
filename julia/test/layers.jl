using MobileNets: Classifier, ConvNormAct, CrossConv, Norm, Pass
using MobileNets: Flux

rng = StableRNG(1)

@testset "a unit is Flux's Conv (kernel reversed), BatchNorm and relu6: stride $stride groups $groups" for
    (stride, groups) in ((1, 1), (2, 1), (1, 4), (2, 4))

    weight = randn(rng, 3, 3, 4 ÷ groups, 8)
    scale, shift, mean, var = randn(rng, 8), randn(rng, 8), randn(rng, 8), rand(rng, 8)
    norm = Norm(scale, shift, mean, var, 1e-5, 0.1)
    unit = ConvNormAct("unit", CrossConv(weight, stride, 1, groups), norm, 6.0)
    x = 3randn(rng, 7, 6, 4, 3)
    conv = Flux.Conv(reverse(weight; dims=(1, 2)), false; stride, pad=1, groups)
    theirs = Flux.BatchNorm(identity, shift, scale, mean, var, 1e-5, 0.1, true, true, nothing, 8)
    for train in (false, true)
        pass = Pass{Float64}(train, Dict(), nothing, Returns(nothing))
        wanted = Flux.relu6.((train ? Flux.trainmode! : Flux.testmode!)(deepcopy(theirs))(conv(x)))
        @test unit(x, pass) ≈ wanted rtol = 1e-13
    end
end

@testset "Flux and Optimisers see what is trained, and nothing else" begin
    model = build(TINY)
    @test sum(length, Flux.trainables(model)) == num_params(TINY)
end

@testset "Flux.f64 leaves no Float32 behind" begin
    model = Flux.f64(build(TINY))
    @test model isa MobileNet{Float64}
    @test all(eltype(array) === Float64 for (_, array) in get_state(model))
    @test model.stem.norm.eps === 1e-5
    @test model(ones(8, 8, 3, 2)) ≈ build(TINY; dtype=Float64)(ones(8, 8, 3, 2))
end
