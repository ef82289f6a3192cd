using Flux
using MobileNets.Tracing: model_and_loss, train_step

network() = Chain(
    Conv((3, 3), 3 => 4, relu; pad=1), BatchNorm(4), Dropout(0.5),
    SkipConnection(Chain(CrossCor((3, 3), 4 => 4; pad=1), GroupNorm(4, 2)), +),
    GlobalMeanPool(), Flux.flatten, LayerNorm(4), Dense(4 => 5),
)
x, labels = randn(StableRNG(1), Float64, 6, 7, 3, 4), [0, 4, 2, 2]

"The same network without dropout, in Float64, whose norms have the constants of the record."
function trained(model)
    chain = Chain(model.layers[1:2]..., model.layers[4:end]...)
    return Flux.trainmode!(MobileNets.Tracing.convert_weights(Float64, deepcopy(chain)))
end

@testset "a step has the loss and the gradients of Flux" begin
    model = network()
    step = train_step(model, x, labels)
    reference = trained(model)
    targets = Flux.onehotbatch(labels, 0:4)
    value, (gradient,) = Flux.withgradient(m -> Flux.logitcrossentropy(m(x), targets), reference)
    @test step.loss ≈ value rtol = 1e-12
    gradients = Dict(step.gradients)
    expected = gradient.layers
    @test Dict(gradients["layers[1]"])["weight"] ≈ expected[1].weight
    @test Dict(gradients["layers[2]"])["weight"] ≈ expected[2].γ
    @test Dict(gradients["layers[4].layers.layers[1]"])["weight"] ≈ expected[3].layers.layers[1].weight
    @test Dict(gradients["layers[4].layers.layers[2]"])["bias"] ≈ expected[3].layers.layers[2].β
    @test Dict(gradients["layers[7]"])["weight"] ≈ expected[6].diag.scale
    @test Dict(gradients["layers[8]"])["bias"] ≈ expected[7].bias
    @test length(gradients) == 6
    (name, statistics), = step.statistics
    @test name == "layers[2]"
    @test Dict(statistics)["running_mean"] ≈ reference[2].μ
    @test Dict(statistics)["running_var"] ≈ reference[2].σ²
    @test Dict(only(filter(r -> r.kind == "batch_norm", step.records)).settings)["training"]
end

@testset "the model itself stays as it is" begin
    model = network()
    before = deepcopy(Flux.state(model))
    train_step(model, x, labels; draw=1)
    @test Flux.state(model) == before
end

@testset "a loss of one's own, and a parameter without gradient" begin
    model = Chain(Flux.flatten, Dense(126 => 5; bias=false))
    step = train_step(model, x, labels; loss=(y, t) -> sum(y) + 0 * sum(t))
    @test step.output_gradient == ones(5, 4)
    parts = Parallel((a, b) -> a, Dense(2 => 3), Dense(2 => 3))
    step = train_step(parts, ones(2, 4), [0, 1, 2, 0])
    @test all(iszero, Dict(Dict(step.gradients)["layers[2]"])["weight"])
    @test any(!iszero, Dict(Dict(step.gradients)["layers[1]"])["weight"])
    @test_throws MobileNets.ConfigError train_step(parts, ones(2, 4), [0, 1, 3, 0])
    @test model_and_loss((parts, sum)) == (parts, sum)
    @test model_and_loss(parts) == (parts, nothing)
end
