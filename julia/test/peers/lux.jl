# Models of Lux in comparisons: records of their layers, training steps, weights from outside.

module LuxModels # whose names are those of Flux

using Lux
using MobileNets
using MobileNets.Tracing: Tracing, built_by, framework, layer_at, load_params!, model_and_loss, run_layer, save_state,
    trace, train_step
using Flux: Flux
using JLD2: JLD2
using StableRNGs: StableRNG
using Test

network() = Chain(
    Conv((3, 2), 3 => 4, relu; pad=(1, 1, 0, 1), stride=(2, 1)),
    Chain(Conv((1, 1), 4 => 4; use_bias=false, cross_correlation=true), BatchNorm(4)),
    SkipConnection(Chain(Conv((3, 3), 4 => 4; pad=1, groups=2), GroupNorm(4, 2, gelu)), +),
    Parallel(+, MaxPool((2, 2)), MeanPool((2, 2))), ConvTranspose((2, 2), 4 => 4; stride=2),
    WrappedFunction(Base.Fix1(broadcast, swish)), InstanceNorm(4), GlobalMeanPool(), FlattenLayer(), Dropout(0.5),
    LayerNorm((4,); dims=1), NoOpLayer(), Dense(4 => 5, tanh), WrappedFunction(softmax),
)

small_network(rate=0.5) = Chain(
    Conv((3, 3), 3 => 4; pad=1), BatchNorm(4, relu), SkipConnection(Chain(Conv((1, 1), 4 => 4)), +), GlobalMeanPool(),
    FlattenLayer(), rate == 0 ? NoOpLayer() : Dropout(rate), LayerNorm((4,); dims=1), Dense(4 => 5),
)

"A model with random parameters and statistics."
function lux_model(model)
    rng = StableRNG(1)
    ps, st = Lux.setup(rng, model)
    random(array) = 0.5f0 .+ rand(rng, Float32, size(array))
    return first(model_and_loss((model, Lux.fmap(random, ps), Lux.fmap(value_or(random), st))))
end

value_or(random) = value -> value isa AbstractArray ? random(value) : value

x = randn(StableRNG(2), Float64, 12, 8, 3, 4)

@testset "every leaf layer of Lux is recorded with its path, kind and settings" begin
    model = lux_model(network())
    @test framework(model) == "Lux"
    records, output = trace(model, x)
    @test [record.name => record.kind for record in records] == [
        "layer_1" => "conv", "layer_1.σ" => "activation", "layer_2.layer_1" => "conv",
        "layer_2.layer_2" => "batch_norm", "layer_3.layer_1" => "conv", "layer_3.layer_2" => "group_norm",
        "layer_3.layer_2.σ" => "activation", "layer_3.connection" => "add", "layer_4.layer_1" => "max_pool",
        "layer_4.layer_2" => "mean_pool", "layer_4.connection" => "add", "layer_5" => "conv_transpose",
        "layer_6" => "activation", "layer_7" => "instance_norm", "layer_8" => "mean_pool", "layer_9" => "flatten",
        "layer_10" => "dropout", "layer_11" => "layer_norm", "layer_12" => "identity", "layer_13" => "dense",
        "layer_13.σ" => "activation", "layer_14" => "softmax",
    ]
    settings = Dict(first(records).settings)
    @test settings["padding"] == [(0, 1), (1, 1)] # torch's order: height, then width
    @test settings["stride"] == [1, 2]
    @test settings["flipped"] && !Dict(records[3].settings)["flipped"]
    @test Dict(records[5].settings)["groups"] == 2
    @test Dict(records[4].settings)["eps"] === 1e-5 # the decimal digits, in Float64
    @test output == last(records).output
    (; ps, st) = model
    @test output ≈ first(model.model(Float32.(x), ps, Lux.testmode(st))) rtol = 1e-4
    for record in records
        @test run_layer(record, record.inputs) == record.output
    end
end

@testset "the model itself stays as it is, and draws move its weights" begin
    model = lux_model(small_network())
    before = deepcopy((model.ps, model.st))
    base, drawn = trace(model, x)[1], trace(model, x; draw=0)[1]
    @test (model.ps, model.st) == before
    @test first(base).params != first(drawn).params
    train_step(model, x, [0, 4, 2, 2])
    @test (model.ps, model.st) == before
end

@testset "a training step has the loss, the gradients and the statistics of Lux" begin
    model = lux_model(small_network())
    labels = [0, 4, 2, 2]
    step = train_step(model, x, labels)
    exact = Tracing.convert_weights(Float64, first(model_and_loss((small_network(0), model.ps, model.st))))
    targets = Flux.onehotbatch(labels, 0:4)
    function objective(ps)
        output, states = exact.model(x, ps, Lux.trainmode(exact.st))
        return Flux.logitcrossentropy(output, targets), states
    end
    (value, states), (expected,) = Flux.withgradient(objective, exact.ps)
    @test step.loss ≈ value rtol = 1e-12
    gradients = Dict(name => Dict(pairs) for (name, pairs) in step.gradients)
    @test length(gradients) == 5
    @test gradients["layer_1"]["weight"] ≈ expected.layer_1.weight
    @test gradients["layer_2"]["weight"] ≈ expected.layer_2.scale
    @test gradients["layer_3.layer_1"]["bias"] ≈ expected.layer_3.layer_1.bias
    @test gradients["layer_7"]["weight"] ≈ vec(expected.layer_7.scale)
    (name, statistics), = step.statistics
    @test name == "layer_2"
    @test Dict(statistics)["running_var"] ≈ states.layer_2.running_var
end

@testset "parameters are copied into ps and st, and saved" begin
    model = lux_model(small_network())
    load_params!(model, "layer_2", ["weight" => fill(2f0, 4), "running_var" => fill(3f0, 4)])
    @test all(==(2), model.ps.layer_2.scale)
    @test all(==(3), model.st.layer_2.running_var)
    load_params!(model, "layer_7", ["bias" => Float32[1, 2, 3, 4]])
    @test vec(model.ps.layer_7.bias) == 1:4
    @test_throws DimensionMismatch load_params!(model, "layer_8", ["weight" => ones(Float32, 4, 5)])
    mktempdir() do folder
        path = joinpath(folder, "weights.jld2")
        save_state(path, model)
        ps, st = JLD2.load(path, "ps", "st")
        @test ps == model.ps
        @test st.layer_2 == model.st.layer_2
    end
end

@testset "layers of one's own, @compact and single layers are taken apart" begin
    block = @compact(conv=Conv((1, 1), 3 => 4), norm=BatchNorm(4)) do x
        @return norm(conv(x))
    end
    records, _ = trace(first(model_and_loss((block, Lux.setup(StableRNG(1), block)...))), x)
    @test [record.name for record in records] == ["conv", "norm"]
    dense = Dense(3 => 2)
    records, _ = trace(first(model_and_loss((dense, Lux.setup(StableRNG(1), dense)...))), ones(3, 2))
    @test [record.kind for record in records] == ["dense"]
    scale = Scale(3)
    records, _ = trace(first(model_and_loss((scale, Lux.setup(StableRNG(1), scale)...))), ones(3, 2))
    @test [record.kind for record in records] == ["other"]
end

@testset "Lux's layer norm takes the whole batch unless it is told the axes" begin
    norm = LayerNorm((3,))
    records, _ = trace(first(model_and_loss((norm, Lux.setup(StableRNG(1), norm)...))), randn(StableRNG(1), 3, 2))
    @test Dict(only(records).settings)["function"] == "LayerNorm of the whole batch"
end

@testset "a file returns a model, its parameters and its states, maybe with a loss" begin
    mktempdir() do folder
        path = joinpath(folder, "net.jl")
        write(path, """
        using Lux, Random
        model = Dense(2 => 3)
        build() = model, Lux.setup(Random.default_rng(), model)...
        with_loss() = build(), (y, t) -> sum(y)
        """)
        model, loss = built_by(path, "build")
        @test framework(model) == "Lux" && loss === nothing
        model, loss = built_by(path, "with_loss")
        @test framework(model) == "Lux" && Base.invokelatest(loss, [1, 2], 0) == 3
    end
end

end
