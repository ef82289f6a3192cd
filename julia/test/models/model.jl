using MobileNets: forward
using Flux: Flux


x, labels = example(Float64)
model = MobileNet(TINY; dtype=Float64)

@testset "canonical names are paths to the arrays" begin
    state = Dict(get_state(model))
    @test state["blocks.3.depthwise.conv.weight"] === model.blocks[4].depthwise.conv.weight
    @test state["classifier.weight"] === model.classifier.weight
end

@testset "a hook is called with every activation in order" begin
    names = String[]
    forward(model, x; train=false, hook=(name, _) -> push!(names, name))
    @test names == activation_names(TINY)
    batch = Dict{String,Any}()
    forward(model, x; train=true, hook=(name, array) -> batch[name] = array)
    maps = batch["stem.conv"]
    @test batch["stem.norm.batch_mean"] ≈ vec(sum(maps; dims=(1, 2, 4))) ./ (9 * 7 * 3)
    @test length(batch) == length(names) + 2 * 27
end

@testset "evaluation mode is the default, also inside a gradient" begin
    scores = model(x)
    @test scores == forward(model, x; train=false) != forward(model, x; train=true)
    inside, _ = Flux.pullback(m -> m(x), model)
    @test inside == scores
end

@testset "the gradient of the images in evaluation mode is the finite difference" begin
    small = x[:, :, :, 1:1]
    gradient, = Flux.gradient(x -> sum(abs2, model(x)), small)
    expected = finite_differences(() -> sum(abs2, model(small)), small; stride=11)
    @test deviation(gradient, expected) < 1e-6
end

@testset "models and layers are printed without their arrays" begin
    text = sprint(show, MIME("text/plain"), model)
    @test occursin("\"width_mult\":0.1", text) && length(text) < 500
    @test count('\n', text) == 0
    @test startswith(repr(model), "MobileNet{Float64}({\"activation\"")
    @test occursin("CrossConv((3, 3, 3, 3), 1, (1, 1), 1)", sprint(show, MIME("text/plain"), model.stem))
    @test occursin("Norm(3 channels, 1.0e-5, 0.1)", sprint(show, model.stem.norm))
    @test sprint(show, model.classifier) == "Classifier(102, 7)"
end
