using MobileNets: freeze
using MobileNets.Models: images_per_micro_batch, unit_sizes

"A model whose norms are not the identity."
function model_with_norms(config; dtype)
    model = MobileNet(config; dtype)
    state, rng = Dict{String,Array}(get_state(model)), StableRNG(7)
    for (name, tensor) in state
        occursin("norm", name) && (tensor .= 0.5 .+ rand(rng, dtype, size(tensor)...))
    end
    set_state!(model, state)
    return model
end

@testset "predictions are those of the model: $(config.family), $dtype, batch $batch, $size" for
    config in (TINY, TINY_V2, TINY_BOTTLENECK), dtype in (Float32, Float64), batch in (1, 5),
    size in ((24, 18), (32, 32))

    model = model_with_norms(config; dtype)
    x, _ = example(dtype; size, batch)
    frozen = freeze(model)
    expected = predict(model, x)
    @test deviation(frozen(x), expected) < 1000eps(dtype)
    @test frozen(x) == frozen(x)
    @test frozen(x[:, :, :, [1]]) ≈ expected[:, [1]]
end

@testset "leading layers of several micro-batches: $family, $batch images" for family in ("v1", "v2"), batch in (4, 9)
    model = model_with_norms(MobileNetConfig(; family, resolution=32, num_classes=5, stem_stride=1); dtype=Float32)
    x, _ = example(Float32; size=(32, 32), batch)
    frozen = freeze(model)
    sizes = unit_sizes(frozen.leading, size(x))
    @test length(frozen.leading) > 2 && !isempty(frozen.remaining)
    @test images_per_micro_batch(sizes, Float32) * Threads.nthreads() < batch || Threads.nthreads() > 2
    @test deviation(frozen(x), predict(model, x)) < 1000eps(Float32)
    @test length(frozen.workspaces.free) <= Threads.nthreads()
end

@testset "later changes of the model have no effect" begin
    model = model_with_norms(TINY_V2; dtype=Float64)
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

@testset "results are new arrays, and images are checked" begin
    model = model_with_norms(TINY; dtype=Float32)
    frozen = freeze(model)
    x, _ = example(Float32; size=(24, 18), batch=2)
    first_result = frozen(x)
    before = copy(first_result)
    frozen(2 .* x)
    @test first_result == before
    @test occursin("must be Float32", message(() -> frozen(Float64.(x)), DataError))
end

@testset "after the first call little memory is allocated" begin
    model = model_with_norms(TINY; dtype=Float32)
    frozen = freeze(model)
    x, _ = example(Float32; size=(24, 18), batch=8)
    frozen(x)
    @test (@allocated frozen(x)) < 100_000
end
