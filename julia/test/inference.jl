using MobileNets: feature_channels

regions(norm, ceiling) = UInt8.(ifelse.(norm .>= ceiling, 2, norm .> 0))

"The pieces every activation lies on: with them the loss is smooth in the parameters."
function frozen(model, x)
    found = Dict(activations(model, x; train=true))
    return Dict{String,Array}(
        "$(unit.name).act" => regions(found["$(unit.name).norm"], unit.ceiling) for
        unit in MobileNets.units(model) if !isnothing(unit.ceiling)
    )
end

"The part of Zygote's gradient of a model that belongs to a canonical name."
function part(tree, name)
    return foldl(split(name, '.'); init=tree) do branch, key
        index = tryparse(Int, key)
        isnothing(index) ? getproperty(branch, Symbol(key)) : branch[index + 1]
    end
end

x, labels = example(Float64; size=(24, 18), batch=3)
model = build(TINY; dtype=Float64)

@testset "activations come in order, in the sizes of the architecture" begin
    found = activations(model, x)
    @test first.(found) == activation_names(TINY)
    @test last(found[end]) == predict(model, x)
    @test size(Dict(found)["blocks.1.depthwise.conv"]) == (12, 9, 6, 3)
    bottleneck = build(TINY_BOTTLENECK; dtype=Float64)
    @test first.(activations(bottleneck, x)) == activation_names(TINY_BOTTLENECK)
    found = activations(build(TINY_V2; dtype=Float64), x)
    @test first.(found) == activation_names(TINY_V2)
    @test size(Dict(found)["blocks.2.add"]) == (24, 18, 2, 3)
    @test size(Dict(found)["blocks.3.depthwise.conv"]) == (12, 9, 12, 3)
end

@testset "a workspace changes no prediction, and keeps none: $kernels" for kernels in ("fast", "reference")
    model, workspace = build(TINY; kernels), Workspace()
    batches = [example(Float32; size=(24, 18), batch, seed=batch)[1] for batch in (3, 1, 3)]
    found = [predict(model, x; workspace) for x in batches]
    @test found == [predict(model, x) for x in batches]
    batches[1] .= 0
    @test found[3] != predict(model, batches[1]; workspace)
end

@testset "a softmax turns logits into probabilities, and leaves loss and gradients alone" begin
    fields = (name => getfield(TINY_V2, name) for name in fieldnames(MobileNetConfig))
    plain = build(MobileNetConfig(; fields..., softmax=false); dtype=Float64)
    model = build(TINY_V2; dtype=Float64)
    found = Dict(activations(model, x))
    @test found["logits"] == predict(plain, x) == model(x)
    @test found["probabilities"] == predict(model, x)
    @test found["probabilities"] ≈ MobileNets.Flux.softmax(found["logits"]) rtol = 1e-14
    @test vec(sum(predict(model, x); dims=1)) ≈ ones(3) rtol = 1e-15
    @test loss_and_grads(model, x, labels) == loss_and_grads(plain, x, labels)
end

@testset "every parameter's gradient is the finite difference: $(config.family)" for
    config in (TINY, TINY_V2, TINY_BOTTLENECK)

    model = build(config; dtype=Float64)
    masks = frozen(model, x)
    masks["dropout"] = rand(StableRNG(2), [0.0, 2.0], feature_channels(config), 3)
    loss, gradients = loss_and_grads(model, x, labels; masks)
    @test first.(gradients) == first.(parameter_shapes(config))
    parameters = Dict(get_state(model))
    for (name, gradient) in gradients
        array = parameters[name]
        evaluate() = first(loss_and_grads(model, x, labels; masks))
        wanted = differences(evaluate, array; step=3e-6, stride=max(1, length(array) ÷ 3))
        @test deviation(gradient, wanted) < 3e-5 # 37 layers bend the loss
    end
end

@testset "the chain of pullbacks is Zygote's gradient, bit for bit: $family $padding" for
    (family, padding) in (("v1", "symmetric"), ("v1_bottleneck", "keras"), ("v2", "keras"))

    config = MobileNetConfig(;
        family, width_mult=0.35, resolution=32, num_classes=7, stem_stride=1, padding,
        softmax=family == "v2",
    )
    model = build(config; dtype=Float64)
    x, labels = example(Float64; config, size=(33, 47), batch=1)
    loss, gradients = loss_and_grads(model, x, labels)
    wanted, (tree,) = MobileNets.Flux.withgradient(model) do m
        MobileNets.cross_entropy(forward(m, x; train=true), labels)
    end
    @test loss == wanted
    @test first.(gradients) == first.(parameter_shapes(config))
    @test all(gradient == part(tree, name) for (name, gradient) in gradients)
end

@testset "masks of the run's own pieces change nothing, others do: $(config.family)" for
    config in (TINY, TINY_V2, TINY_BOTTLENECK)

    model = build(config; dtype=Float64)
    masks = frozen(model, x)
    @test loss_and_grads(model, x, labels; masks) == loss_and_grads(model, x, labels)
    masks["stem.act"] .= 0
    @test loss_and_grads(model, x, labels; masks) != loss_and_grads(model, x, labels)
end

@testset "loss_and_grads leaves the model as it was, and repeats to the bit: $T" for
    T in (Float32, Float64)

    model = build(TINY; dtype=T)
    x, labels = example(T)
    before = [name => copy(array) for (name, array) in get_state(model)]
    first_time = loss_and_grads(model, x, labels)
    @test get_state(model) == before
    @test loss_and_grads(model, x, labels) == first_time
    @test first_time[1] isa Float64
    @test all(gradient isa Array{T} for (_, gradient) in first_time[2])
end

@testset "Float32 is Float64 rounded: no layer loses digits" begin
    x, _ = example(Float32; size=(32, 32), batch=8)
    narrow = activations(build(TINY), x; train=true)
    wide = activations(build(TINY; dtype=Float64), Float64.(x); train=true)
    distance(a, b) = sqrt(sum(abs2, a - b) / sum(abs2, b))
    errors = [name => distance(a, b) for ((name, a), (_, b)) in zip(narrow, wide)]
    @test Dict(errors)["stem.norm"] < 1.2e-7
    @test maximum(last, errors) < 2e-5
end
