using MobileNets: forward
using MobileNets.Configs: feature_channels
using MobileNets.Kernels: cross_entropy
using Flux: Flux
using MobileNets.Models: units

activation_mask(norm, clip_value) = UInt8.(ifelse.(norm .>= clip_value, 2, norm .> 0))

"The activation masks of a forward pass; with them the loss is a smooth function of the parameters."
function activation_masks(model, x)
    recorded = Dict(activations(model, x; train=true))
    return Dict{String,Array}(
        "$(unit.name).act" => activation_mask(recorded["$(unit.name).norm"], unit.clip_value) for
        unit in units(model) if !isnothing(unit.clip_value)
    )
end

"The entry of Zygote's gradient of a model for a canonical name."
function gradient_entry(tree, name)
    return foldl(split(name, '.'); init=tree) do branch, key
        index = tryparse(Int, key)
        isnothing(index) ? getproperty(branch, Symbol(key)) : branch[index + 1]
    end
end

x, labels = example(Float64; size=(24, 18), batch=3)
model = MobileNet(TINY; dtype=Float64)

@testset "activations have the order and the sizes of the architecture" begin
    recorded = activations(model, x)
    @test first.(recorded) == activation_names(TINY)
    @test last(recorded[end]) == predict(model, x)
    @test size(Dict(recorded)["blocks.1.depthwise.conv"]) == (12, 9, 6, 3)
    bottleneck = MobileNet(TINY_BOTTLENECK; dtype=Float64)
    @test first.(activations(bottleneck, x)) == activation_names(TINY_BOTTLENECK)
    recorded = activations(MobileNet(TINY_V2; dtype=Float64), x)
    @test first.(recorded) == activation_names(TINY_V2)
    @test size(Dict(recorded)["blocks.2.add"]) == (24, 18, 2, 3)
    @test size(Dict(recorded)["blocks.3.depthwise.conv"]) == (12, 9, 12, 3)
end

@testset "a workspace does not change predictions, and results are not its arrays: $kernels" for
    kernels in (:fast, :reference)

    model, workspace = MobileNet(TINY; kernels), Workspace()
    batches = [example(Float32; size=(24, 18), batch, seed=batch)[1] for batch in (3, 1, 3)]
    scores = [predict(model, x; workspace) for x in batches]
    @test scores == [predict(model, x) for x in batches]
    batches[1] .= 0
    @test scores[3] != predict(model, batches[1]; workspace)
end

@testset "a softmax turns logits into probabilities, and does not change loss and gradients" begin
    plain = MobileNet(Configs.with_fields(TINY_V2; softmax=false); dtype=Float64)
    model = MobileNet(TINY_V2; dtype=Float64)
    recorded = Dict(activations(model, x))
    @test recorded["logits"] == predict(plain, x) == model(x)
    @test recorded["probabilities"] == predict(model, x)
    @test recorded["probabilities"] ≈ Flux.softmax(recorded["logits"]) rtol = 1e-14
    @test vec(sum(predict(model, x); dims=1)) ≈ ones(3) rtol = 1e-15
    @test loss_and_grads(model, x, labels) == loss_and_grads(plain, x, labels)
end

@testset "every parameter's gradient is the finite difference: $(config.family)" for
    config in (TINY, TINY_V2, TINY_BOTTLENECK)

    model = MobileNet(config; dtype=Float64)
    masks = activation_masks(model, x)
    masks["dropout"] = rand(StableRNG(2), [0.0, 2.0], feature_channels(config), 3)
    loss, gradients = loss_and_grads(model, x, labels; masks)
    @test first.(gradients) == first.(parameter_shapes(config))
    parameters = Dict(get_state(model))
    for (name, gradient) in gradients
        array = parameters[name]
        loss_of_masks() = first(loss_and_grads(model, x, labels; masks))
        expected = finite_differences(loss_of_masks, array; step=3e-6, stride=max(1, length(array) ÷ 3))
        @test deviation(gradient, expected) < 3e-5 # 37 layers give the loss a large curvature
    end
end

@testset "the chain of pullbacks is Zygote's gradient to the bit: $family $padding" for
    (family, padding) in ((:v1, :symmetric), (:v1_bottleneck, :keras), (:v2, :keras))

    config = MobileNetConfig(;
        family, width_mult=0.35, resolution=32, num_classes=7, stem_stride=1, padding,
        softmax=family == :v2,
    )
    model = MobileNet(config; dtype=Float64)
    x, labels = example(Float64; config, size=(33, 47), batch=1)
    loss, gradients = loss_and_grads(model, x, labels)
    zygote_loss, (tree,) = Flux.withgradient(model) do m
        cross_entropy(forward(m, x; train=true), labels)
    end
    @test loss == zygote_loss
    @test first.(gradients) == first.(parameter_shapes(config))
    @test all(gradient == gradient_entry(tree, name) for (name, gradient) in gradients)
end

@testset "the masks of the forward pass itself change nothing, others do: $(config.family)" for
    config in (TINY, TINY_V2, TINY_BOTTLENECK)

    model = MobileNet(config; dtype=Float64)
    masks = activation_masks(model, x)
    @test loss_and_grads(model, x, labels; masks) == loss_and_grads(model, x, labels)
    masks["stem.act"] .= 0
    @test loss_and_grads(model, x, labels; masks) != loss_and_grads(model, x, labels)
end

@testset "loss_and_grads does not change the model, and is reproducible to the bit: $T" for
    T in (Float32, Float64)

    model = MobileNet(TINY; dtype=T)
    x, labels = example(T)
    before = [name => copy(array) for (name, array) in get_state(model)]
    first_time = loss_and_grads(model, x, labels)
    @test get_state(model) == before
    @test loss_and_grads(model, x, labels) == first_time
    @test first_time[1] isa Float64
    @test all(gradient isa Array{T} for (_, gradient) in first_time[2])
end

@testset "Float32 agrees with Float64: no layer loses digits" begin
    x, _ = example(Float32; size=(32, 32), batch=8)
    narrow = activations(MobileNet(TINY), x; train=true)
    wide = activations(MobileNet(TINY; dtype=Float64), Float64.(x); train=true)
    errors = [name => relative_error(a, b) for ((name, a), (_, b)) in zip(narrow, wide)]
    @test Dict(errors)["stem.norm"] < 1.2e-7
    @test maximum(last, errors) < 2e-5
end
