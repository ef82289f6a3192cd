using BSON: BSON
using MobileNets: flux_chain, load, read_weights
using Flux: Flux


folder = mktempdir()
file(name) = joinpath(folder, name)
configs = [
    TINY,
    MobileNetConfig(; family=:v2, width_mult=0.35, num_classes=5, norm_eps=1e-3, padding=:keras),
    MobileNetConfig(; family=:v1_bottleneck, in_channels=1, softmax=true, norm_momentum=0.2),
]

@testset "the weights of a stock chain and of its state, saved by BSON.jl, are read: $(config.family), $T" for
    (config, T) in zip(configs, (Float64, Float32, Float32))

    model = MobileNet(config; seed=3, dtype=T)
    chain = flux_chain(model)
    for content in (Dict(:model => chain), Dict(:epoch => 3, :state => Flux.state(chain)))
        BSON.bson(file("model.bson"), content)
        @test MobileNets.container(file("model.bson")) == :bson
        contents = read_weights(file("model.bson"); config)
        @test contents.state == Dict(get_state(model))
        inferred = read_weights(file("model.bson")).config
        fields = (:family, :width_mult, :num_classes, :in_channels, :norm_eps, :norm_momentum, :padding)
        @test all(field -> getfield(inferred, field) == getfield(config, field), fields)
    end
end

@testset "an array that is stored once is read at two places" begin
    chain = flux_chain(MobileNet(TINY))
    norms = [layer for layer in chain if layer isa Flux.BatchNorm]
    norms[1].μ === norms[1].β || copyto!(norms[1].β, norms[1].μ)
    shared = Flux.BatchNorm(
        norms[1].λ, norms[1].μ, norms[1].γ, norms[1].μ, norms[1].σ², norms[1].ϵ, norms[1].momentum,
        true, true, nothing, norms[1].chs,
    )
    layers = map(layer -> layer === norms[1] ? shared : layer, chain.layers)
    BSON.bson(file("shared.bson"), Dict(:model => Flux.Chain(layers...)))
    state = read_weights(file("shared.bson"); config=TINY).state
    @test state["stem.norm.bias"] == state["stem.norm.running_mean"] == norms[1].μ
end

"Counts how often a value is constructed."
struct BsonTrap
    value::Int
    BsonTrap(value) = (BSON_BUILT[] += 1; new(value))
end
const BSON_BUILT = Ref(0)

bson_rejection(content; written=BSON.bson(file("bad.bson"), content)) =
    message(() -> load(file("bad.bson"); config=TINY), WeightsError)

@testset "a file without exactly one model, or that breaks a rule, is rejected" begin
    @test occursin("must have one model with Conv layers. Received: a, b", bson_rejection(Dict(:a => 1, :b => [1.0])))
    chain = flux_chain(MobileNet(TINY))
    @test occursin("Received: a, b", bson_rejection(Dict(:a => chain, :b => deepcopy(chain))))
    @test occursin("27 Conv. Received: 1", bson_rejection(Dict(:a => Flux.Conv((3, 3), 3 => 2))))
    raw(content) = (BSON.bson(file("bad.bson"), content); nothing)
    tagged(; fields...) = Dict(:m => Dict{Symbol,Any}(fields))
    @test occursin("a tag must be one of BSON.jl's. Received: \"spell\"", bson_rejection(tagged(; tag="spell")))
    @test occursin("must have data. Received: size, tag", bson_rejection(tagged(; tag="array", size=[1])))
    @test occursin("a reference must be in [1, 0]. Received: 7", bson_rejection(tagged(; tag="backref", ref=7)))
    array(size, name; data=zeros(UInt8, 8)) =
        tagged(; tag="array", size, data, type=Dict(:name => Any["Core", name]))
    @test occursin("type must be one of Float16", bson_rejection(array(Any[1], "Module")))
    @test occursin("must have as many values. Received: 2.0", bson_rejection(array(Any[10^9, 10^9], "Float32")))
    @test occursin("size must be whole numbers", bson_rejection(array(Any[-1], "Float32")))
end

@testset "circular references are rejected" begin
    again = Dict{Symbol,Any}(:tag => "backref", :ref => 1)
    deep = Dict(:m => again, :_backrefs => Any[Dict{Symbol,Any}(:tag => "tuple", :data => Any[again])])
    @test occursin("without end", bson_rejection(deep))
    wide = Dict{Symbol,Any}(:tag => "tuple", :data => Any[again, again, again])
    @test occursin("without end", bson_rejection(Dict(:m => again, :_backrefs => Any[wide])))
end

@testset "reading constructs no type that a file names" begin
    BSON.bson(file("trap.bson"), Dict(:m => BsonTrap(1), :model => flux_chain(MobileNet(TINY))))
    count = BSON_BUILT[]
    @test load(file("trap.bson"); config=TINY) isa MobileNet
    @test BSON_BUILT[] == count
end

@testset "a damaged file is a model or is rejected" begin
    BSON.bson(file("model.bson"), Dict(:model => flux_chain(MobileNet(TINY))))
    bytes, rng = read(file("model.bson")), StableRNG(1)
    outcomes = map(1:60) do number
        changed = copy(bytes)
        if number % 4 == 0
            changed = changed[1:rand(rng, 1:(end - 1))]
            changed[1:4] .= reinterpret(UInt8, [htol(Int32(length(changed)))])[1:min(4, end)]
        else
            changed[rand(rng, 5:(number % 2 == 0 ? 400 : length(bytes)), 8)] .= rand(rng, UInt8, 8)
        end
        write(file("changed.bson"), changed)
        try
            load(file("changed.bson"))
        catch error
            error
        end
    end
    @test all(outcome -> outcome isa Union{MobileNet,WeightsError}, outcomes)
    @test any(outcome -> outcome isa WeightsError, outcomes)
end
