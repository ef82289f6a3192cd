# A frozen model gives the model's predictions, norms folded, and nothing reaches it any more.
using MobileNets: Flux, freeze

"A model whose norms are off their trivial values."
function lively(config; dtype)
    model = build(config; dtype)
    state, rng = Dict{String,Array}(get_state(model)), StableRNG(7)
    for (name, tensor) in state
        occursin("norm", name) && (tensor .= 0.5 .+ rand(rng, dtype, size(tensor)...))
    end
    set_state!(model, state)
    return model
end

@testset "it gives the model's predictions: $(config.family), $dtype, batch $batch, $size" for
    config in (TINY, TINY_V2, TINY_BOTTLENECK), dtype in (Float32, Float64), batch in (1, 5),
    size in ((24, 18), (32, 32))

    model = lively(config; dtype)
    x, _ = example(dtype; size, batch)
    frozen = freeze(model)
    wanted = predict(model, x)
    @test deviation(frozen(x), wanted) < 1000eps(dtype)
    @test frozen(x) == frozen(x)
    @test frozen(x[:, :, :, [1]]) ≈ wanted[:, [1]]
end

@testset "what happens to the model later does not reach it" begin
    model = lively(TINY_V2; dtype=Float64)
    x, _ = example(Float64; size=(24, 18), batch=3)
    frozen = freeze(model)
    before = frozen(x)
    for array in (model.stem.conv.weight, model.blocks[1].depthwise.norm.bias, model.classifier.weight)
        array .= 0
    end
    model.classifier.bias .= 3
    @test frozen(x) == before
    @test allequal(predict(model, x)) && !allequal(before)
end

@testset "its results are nobody else's, and its images are checked" begin
    model = lively(TINY; dtype=Float32)
    frozen = freeze(model)
    x, _ = example(Float32; size=(24, 18), batch=2)
    first_result = frozen(x)
    kept = copy(first_result)
    frozen(2 .* x)
    @test first_result == kept
    @test occursin("must be Float32", message(() -> frozen(Float64.(x)), DataError))
end

@testset "after the first run it takes hardly any new memory" begin
    model = lively(TINY; dtype=Float32)
    frozen = freeze(model)
    x, _ = example(Float32; size=(24, 18), batch=8)
    frozen(x)
    @test (@allocated frozen(x)) < 100_000
end
