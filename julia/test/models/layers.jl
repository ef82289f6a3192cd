using MobileNets.Kernels: AllocatingWorkspace, FastKernels, ReferenceKernels, images_to_maps, maps_to_images
using Flux: Flux
using MobileNets.Models: Classifier, ConvNormAct, CrossConv, ForwardPass, Norm, apply_block
using Optimisers: Optimisers

rng = StableRNG(1)
all_kernels = (FastKernels(AllocatingWorkspace()), ReferenceKernels())
pass_with(train, kernels) = ForwardPass{Float64}(; train, kernels)

"The function `f` of maps in the layout of the kernels, as a function of maps (W, H, C, N)."
on_maps(f, kernels) = x -> maps_to_images(kernels, f(images_to_maps(kernels, x)))

@testset "a unit is Flux's Conv (with flipped kernel), BatchNorm and activation: $stride $padding $groups" for
    (stride, padding, groups) in
    ((1, (1, 1), 1), (2, (1, 1), 1), (1, (1, 1), 4), (2, (1, 1), 4), (2, (0, 1), 1), (2, (0, 1), 4))

    weight = randn(rng, 3, 3, 4 ÷ groups, 4)
    scale, shift, mean, var = randn(rng, 4), randn(rng, 4), randn(rng, 4), rand(rng, 4)
    norm = Norm(scale, shift, mean, var, 1e-5, 0.1)
    conv = CrossConv(weight, stride, padding, groups)
    x = 3randn(rng, 7, 6, 4, 3)
    pad = (padding..., padding...)
    flux_conv = Flux.Conv(reverse(weight; dims=(1, 2)), false; stride, pad, groups)
    flux_norm = Flux.BatchNorm(identity, shift, scale, mean, var, 1e-5, 0.1, true, true, nothing, 4)
    activations = (6.0 => Flux.relu6, Inf => Flux.relu, nothing => identity)
    for train in (false, true), (clip_value, activation) in activations
        expected = activation.((train ? Flux.trainmode! : Flux.testmode!)(deepcopy(flux_norm))(flux_conv(x)))
        unit = ConvNormAct("unit", conv, norm, clip_value)
        for kernels in all_kernels
            @test on_maps(x -> unit(x, pass_with(train, kernels)), kernels)(x) ≈ expected rtol = 1e-13
        end
    end
end

@testset "a residual block is Flux's SkipConnection around its units" begin
    block = MobileNet(TINY_V2; dtype=Float64).blocks[3]
    x = randn(rng, 5, 6, 2, 3)
    @test block.project.residual
    for kernels in all_kernels
        plain(unit) = x -> unit(x, pass_with(true, kernels))
        flux_block = Flux.SkipConnection(Flux.Chain(map(plain, values(block))...), +)
        own_block(x) = apply_block(block, x, pass_with(true, kernels))
        @test on_maps(own_block, kernels)(x) == on_maps(flux_block, kernels)(x)
    end
end

@testset "the classifier is `weight' * x .+ bias`" begin
    classifier = Classifier(randn(rng, 4, 3), randn(rng, 3))
    x = randn(rng, 4, 5)
    @test classifier(x) ≈ classifier.weight' * x .+ classifier.bias rtol = 1e-14
end

"The trained arrays by canonical name."
trained(model) = filter(entry -> !occursin("running_", first(entry)), get_state(model))

@testset "Flux sees the trained arrays, and no others: $(config.family)" for
    config in (TINY, TINY_V2, TINY_BOTTLENECK)

    model = MobileNet(config)
    arrays = Flux.trainables(model)
    @test sum(length, arrays) == num_params(config)
    @test Set(objectid.(arrays)) == Set(objectid.(last.(trained(model))))
    @test count(leaf -> leaf isa Array{<:AbstractFloat}, Flux.Functors.fleaves(model)) == length(get_state(model))
end

@testset "Optimisers updates the trained arrays, and no others: $(config.family)" for
    config in (TINY, TINY_V2, TINY_BOTTLENECK)

    model = MobileNet(config; dtype=Float64)
    before = deepcopy(get_state(model))
    x, labels = example(Float64; config, size=(32, 32))
    gradients = Dict(last(loss_and_grads(model, x, labels)))
    _, (gradient,) = Flux.withgradient(model) do m
        Kernels.cross_entropy(MobileNets.forward(m, x; train=true), labels)
    end
    _, updated = Optimisers.update!(Optimisers.setup(Optimisers.Descent(0.1), model), model, gradient)
    @test updated isa MobileNet{Float64} && updated.config == config
    for ((name, old), (_, new)) in zip(before, get_state(updated))
        expected = haskey(gradients, name) ? old .- 0.1 .* gradients[name] : old
        @test new ≈ expected rtol = 1e-14
    end
end

@testset "a model can be flattened and rebuilt, mapped, and its state loaded" begin
    model, other = MobileNet(TINY), MobileNet(TINY; seed=1)
    flat, rebuild = Flux.destructure(other)
    @test length(flat) == num_params(TINY) && rebuild(flat) isa MobileNet{Float32}
    @test last.(trained(rebuild(flat))) == last.(trained(other))
    doubled = Flux.fmap(leaf -> leaf isa AbstractArray ? 2leaf : leaf, model)
    @test doubled.stem.conv.weight == 2model.stem.conv.weight
    Flux.loadmodel!(model, Flux.state(other))
    @test get_state(model) == get_state(other)
end

@testset "Flux.f64 converts all arrays" begin
    model = Flux.f64(MobileNet(TINY))
    @test model isa MobileNet{Float64}
    @test all(eltype(array) === Float64 for (_, array) in get_state(model))
    @test model.stem.norm.eps === 1e-5
    @test model(ones(8, 8, 3, 2)) ≈ MobileNet(TINY; dtype=Float64)(ones(8, 8, 3, 2))
end
