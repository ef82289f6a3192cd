using MobileNets: Classifier, ConvNormAct, CrossConv, Norm, Pass
using MobileNets: Flux

rng = StableRNG(1)
pass_of(train) = Pass{Float64}(train, Dict(), nothing, Returns(nothing))

@testset "a unit is Flux's Conv (kernel reversed), BatchNorm and activation: $stride $padding $groups" for
    (stride, padding, groups) in
    ((1, (1, 1), 1), (2, (1, 1), 1), (1, (1, 1), 4), (2, (1, 1), 4), (2, (0, 1), 1), (2, (0, 1), 4))

    weight = randn(rng, 3, 3, 4 ÷ groups, 8)
    scale, shift, mean, var = randn(rng, 8), randn(rng, 8), randn(rng, 8), rand(rng, 8)
    norm = Norm(scale, shift, mean, var, 1e-5, 0.1)
    conv = CrossConv(weight, stride, padding, groups)
    x = 3randn(rng, 7, 6, 4, 3)
    pad = (padding..., padding...)
    stock = Flux.Conv(reverse(weight; dims=(1, 2)), false; stride, pad, groups)
    theirs = Flux.BatchNorm(identity, shift, scale, mean, var, 1e-5, 0.1, true, true, nothing, 8)
    activations = (6.0 => Flux.relu6, Inf => Flux.relu, nothing => identity)
    for train in (false, true), (ceiling, activation) in activations
        wanted = activation.((train ? Flux.trainmode! : Flux.testmode!)(deepcopy(theirs))(stock(x)))
        @test ConvNormAct("unit", conv, norm, ceiling)(x, pass_of(train)) ≈ wanted rtol = 1e-13
    end
end

@testset "a residual block is Flux's SkipConnection around its units" begin
    block = build(TINY_V2; dtype=Float64).blocks[3]
    plain(unit) = x -> unit(x, pass_of(true))
    stock = Flux.SkipConnection(Flux.Chain(map(plain, values(block))...), +)
    x = randn(rng, 5, 6, 2, 3)
    @test block.project.residual
    @test MobileNets.through(block, x, pass_of(true)) == stock(x)
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
