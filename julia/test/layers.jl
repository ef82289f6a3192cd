using MobileNets: Classifier, ConvNormAct, CrossConv, Fast, Flux, Fresh, Norm, Pass, Reference
using MobileNets: images_to_maps, maps_to_images

rng = StableRNG(1)
kernels = (Fast(Fresh()), Reference())
pass_of(train, kernels) = Pass{Float64}(; train, kernels)

"`f`, which works on the kernels' maps, for maps (W, H, C, N)."
on_maps(f, kernels) = x -> maps_to_images(kernels, f(images_to_maps(kernels, x)))

@testset "a unit is Flux's Conv (kernel reversed), BatchNorm and activation: $stride $padding $groups" for
    (stride, padding, groups) in
    ((1, (1, 1), 1), (2, (1, 1), 1), (1, (1, 1), 4), (2, (1, 1), 4), (2, (0, 1), 1), (2, (0, 1), 4))

    weight = randn(rng, 3, 3, 4 ÷ groups, 4)
    scale, shift, mean, var = randn(rng, 4), randn(rng, 4), randn(rng, 4), rand(rng, 4)
    norm = Norm(scale, shift, mean, var, 1e-5, 0.1)
    conv = CrossConv(weight, stride, padding, groups)
    x = 3randn(rng, 7, 6, 4, 3)
    pad = (padding..., padding...)
    stock = Flux.Conv(reverse(weight; dims=(1, 2)), false; stride, pad, groups)
    theirs = Flux.BatchNorm(identity, shift, scale, mean, var, 1e-5, 0.1, true, true, nothing, 4)
    activations = (6.0 => Flux.relu6, Inf => Flux.relu, nothing => identity)
    for train in (false, true), (ceiling, activation) in activations
        wanted = activation.((train ? Flux.trainmode! : Flux.testmode!)(deepcopy(theirs))(stock(x)))
        unit = ConvNormAct("unit", conv, norm, ceiling)
        for path in kernels
            @test on_maps(x -> unit(x, pass_of(train, path)), path)(x) ≈ wanted rtol = 1e-13
        end
    end
end

@testset "a residual block is Flux's SkipConnection around its units" begin
    block = build(TINY_V2; dtype=Float64).blocks[3]
    x = randn(rng, 5, 6, 2, 3)
    @test block.project.residual
    for path in kernels
        plain(unit) = x -> unit(x, pass_of(true, path))
        stock = Flux.SkipConnection(Flux.Chain(map(plain, values(block))...), +)
        ours(x) = MobileNets.through(block, x, pass_of(true, path))
        @test on_maps(ours, path)(x) == on_maps(stock, path)(x)
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
