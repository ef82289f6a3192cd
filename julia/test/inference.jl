using MobileNets: feature_channels

regions(norm) = UInt8.(ifelse.(norm .>= 6, 2, norm .> 0))

"The pieces every activation lies on: with them the loss is smooth in the parameters."
function frozen(model, x)
    found = Dict(activations(model, x; train=true))
    return Dict{String,Array}(
        replace(name, r"norm$" => "act") => regions(array) for
        (name, array) in found if endswith(name, ".norm")
    )
end

x, labels = example(Float64; size=(24, 18), batch=3)
model = build(TINY; dtype=Float64)

@testset "activations come in order, in the sizes of the architecture" begin
    found = activations(model, x)
    @test first.(found) == activation_names(TINY)
    @test last(found[end]) == predict(model, x)
    @test size(Dict(found)["blocks.1.depthwise.conv"]) == (12, 9, 6, 3)
end

@testset "every parameter's gradient is the finite difference" begin
    masks = frozen(model, x)
    masks["dropout"] = rand(StableRNG(2), [0.0, 2.0], feature_channels(TINY), 3)
    loss, gradients = loss_and_grads(model, x, labels; masks)
    @test first.(gradients) == first.(parameter_shapes(TINY))
    parameters = Dict(get_state(model))
    for (name, gradient) in gradients
        array = parameters[name]
        evaluate() = first(loss_and_grads(model, x, labels; masks))
        wanted = differences(evaluate, array; stride=max(1, length(array) ÷ 3))
        @test deviation(gradient, wanted) < 1e-5
    end
end

@testset "the chain of pullbacks is Zygote's gradient, bit for bit" begin
    loss, gradients = loss_and_grads(model, x, labels)
    wanted, (tree,) = MobileNets.Flux.withgradient(model) do m
        MobileNets.cross_entropy(forward(m, x; train=true), labels)
    end
    @test loss == wanted
    block = tree.blocks[4].depthwise
    found = Dict(gradients)
    @test found["stem.conv.weight"] == tree.stem.conv.weight
    @test found["blocks.3.depthwise.conv.weight"] == block.conv.weight
    @test found["blocks.3.depthwise.norm.bias"] == block.norm.bias
    @test found["blocks.12.pointwise.norm.weight"] == tree.blocks[13].pointwise.norm.weight
    @test found["classifier.weight"] == tree.classifier.weight
    @test found["classifier.bias"] == tree.classifier.bias
end

@testset "masks of the run's own pieces change nothing, others do" begin
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
