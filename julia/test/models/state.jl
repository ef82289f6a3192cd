model = MobileNet(TINY)
good() = Dict{String,Array}(name => copy(array) for (name, array) in get_state(model))
set(pairs...) = merge(good(), Dict{String,Array}(pairs...))
rejection(state) = message(() -> set_state!(model, state), WeightsError)

@testset "a state is copied, and read back" begin
    other = MobileNet(TINY; seed=1)
    @test set_state!(other, good()) === other
    @test get_state(other) == get_state(model)
    @test first(get_state(model)[1]) == "stem.conv.weight"
    @test set_state!(other, get_state(other)) === other
end

@testset "a state that does not match is rejected by name, and nothing is copied" begin
    before = good()
    incomplete = delete!(good(), "stem.conv.weight")
    @test occursin("missing stem.conv.weight, left over none", rejection(incomplete))
    @test occursin("missing none, left over extra", rejection(set("extra" => [1.0f0])))
    @test occursin("and 132 more", rejection(Dict{String,Array}()))
    name = "blocks.2.pointwise.norm.running_var"
    n = length(good()[name])
    shape = rejection(set(name => zeros(Float32, 2)))
    @test occursin("$name must have shape ($n,). Received: (2,)", shape)
    @test occursin("$name must be Float32. Received: Float64", rejection(set(name => zeros(n))))
    @test occursin("$name must be finite. Received: NaN", rejection(set(name => fill(NaN32, n))))
    negative = rejection(set(name => fill(-1.0f0, n)))
    @test occursin("$name must not be negative. Received: -1.0", negative)
    @test good() == before
end

@testset "optimizer slots require the optimizer they belong to" begin
    sgd, adam = (setup_optimizer(TrainConfig(; optimizer), model) for optimizer in (:sgd, :adam))
    state = get_state(model, sgd)
    @test "optimizer.momentum.stem.conv.weight" in first.(state)
    @test "optimizer.exp_avg_sq.classifier.bias" in first.(get_state(model, adam))
    @test last(state[end]) isa Array{Int64,0}
    @test occursin("momentum", message(() -> set_state!(model, state), ConfigError))
    @test occursin("adam", message(() -> set_state!(model, adam, state), ConfigError))
    changed = Dict{String,Array}(name => copy(array) for (name, array) in state)
    fill!(changed["optimizer.momentum.classifier.bias"], 2)
    changed["optimizer.step"] = fill(7)
    set_state!(model, sgd, changed)
    @test Dict(get_state(model, sgd)) == changed
    set_state!(model, sgd, get_state(model))
    @test Dict(get_state(model, sgd)) == changed
    changed["optimizer.step"] = fill(-1)
    @test occursin("optimizer.step must not be negative", message(
        () -> set_state!(model, sgd, changed), WeightsError
    ))
end
