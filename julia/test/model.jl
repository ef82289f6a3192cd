using MobileNets: Flux

x, labels = example(Float64)
model = build(TINY; dtype=Float64)

@testset "canonical names lead to the tensors" begin
    state = Dict(get_state(model))
    @test state["blocks.3.depthwise.conv.weight"] === model.blocks[4].depthwise.conv.weight
    @test state["classifier.weight"] === model.classifier.weight
end

@testset "taps hand out every activation in order" begin
    names = String[]
    forward(model, x; train=false, tap=(name, _) -> push!(names, name))
    @test names == activation_names(TINY)
    batch = Dict{String,Any}()
    forward(model, x; train=true, tap=(name, array) -> batch[name] = array)
    maps = batch["stem.conv"]
    @test batch["stem.norm.batch_mean"] ≈ vec(sum(maps; dims=(1, 2, 4))) ./ (9 * 7 * 3)
    @test length(batch) == length(names) + 2 * 27
end

@testset "evaluation mode is the default, inside a gradient too" begin
    evaluated = model(x)
    @test evaluated == forward(model, x; train=false) != forward(model, x; train=true)
    inside, _ = Flux.pullback(m -> m(x), model)
    @test inside == evaluated
end

@testset "evaluation mode has the gradient of the images" begin
    small = x[:, :, :, 1:1]
    gradient, = Flux.gradient(x -> sum(abs2, model(x)), small)
    wanted = differences(() -> sum(abs2, model(small)), small; stride=11)
    @test deviation(gradient, wanted) < 1e-6
end

@testset "models and layers print what they are, not their numbers" begin
    @test occursin("\"width_mult\":0.1", sprint(show, MIME("text/plain"), model))
    @test occursin("CrossConv((3, 3, 3, 3), 1, (1, 1), 1)", sprint(show, MIME("text/plain"), model.stem))
    @test occursin("Norm(3 channels, 1.0e-5, 0.1)", sprint(show, model.stem.norm))
    @test sprint(show, model.classifier) == "Classifier(102, 7)"
end
