using JLD2: JLD2
using MobileNets: container, flux_chain, load, read_weights, save
using Flux: Flux


folder = mktempdir()
file(name) = joinpath(folder, name)
configs = [
    MobileNetConfig(; width_mult=0.1, resolution=32, num_classes=7),
    MobileNetConfig(;
        family=:v2, width_mult=0.35, num_classes=5, norm_eps=1e-3, padding=:keras, stem_stride=1,
        dropout=0.2,
    ),
    MobileNetConfig(; family=:v1_bottleneck, in_channels=1, softmax=true),
]

@testset "a model is read from a $suffix file to the bit, detected by its content: $T" for
    suffix in ("safetensors", "npz", "jld2", "NPZ"), T in (Float32, Float64)

    model = MobileNet(TINY; seed=2, dtype=T)
    path = save(file("model.$suffix"), model; probe=false, metadata=Dict("note" => "é"))
    renamed = file("renamed")
    cp(path, renamed; force=true)
    @test container(renamed) == Symbol(lowercase(suffix))
    contents = read_weights(renamed)
    @test (contents.config, contents.state) == (TINY, Dict(get_state(model)))
    @test contents.metadata == Dict("note" => "é")
    @test get_state(load(renamed)) == get_state(model)
end

@testset "optimizer slots are written to .npz, and rejected for .jld2" begin
    model = MobileNet(TINY)
    optimizer = setup_optimizer(TrainConfig(; optimizer=:adam), model)
    save(file("model.npz"), model; optimizer)
    @test read_weights(file("model.npz")).state == Dict(get_state(model, optimizer))
    text = message(() -> save(file("model.jld2"), model; optimizer), WeightsError)
    @test occursin("moments need .safetensors or .npz. Received: exp_avg", text)
end

@testset "unknown suffixes and formats are rejected" begin
    text = message(() -> save(file("model.pt"), MobileNet(TINY)), WeightsError)
    @test occursin("must end in .safetensors, .npz or .jld2", text)
    @test !isfile(file("model.pt"))
    @test occursin("no such file", message(() -> load(file("absent.npz")), WeightsError))
    write(file("keras"), Files.HDF5_START, zeros(UInt8, 100))
    @test occursin("HDF5 file, and not one of JLD2's", message(() -> load(file("keras")), WeightsError))
    write(file("text"), "neither tensors nor a header")
    @test occursin("not a valid safetensors file", message(() -> load(file("text")), WeightsError))
end

@testset "Flux.loadmodel! loads model_state, and a file with nothing else is read" begin
    for config in configs
        model = MobileNet(config; seed=4)
        path = save(file("model.jld2"), model)
        chain = flux_chain(MobileNet(config; seed=5))
        Flux.loadmodel!(chain, JLD2.load(path, "model_state"))
        @test MobileNets.from_flux_state(config, Flux.state(chain)) == Dict(get_state(model))
        JLD2.jldsave(file("bare.jld2"); model_state=Flux.state(chain), epoch=3)
        contents = read_weights(file("bare.jld2"))
        @test contents.state == Dict(get_state(model))
        inferred = (
            :family, :width_mult, :num_classes, :in_channels, :norm_eps, :padding, :stem_stride, :dropout
        )
        @test all(field -> getfield(contents.config, field) == getfield(config, field), inferred)
        @test read_weights(file("bare.jld2"); config).config == config
    end
end

@testset "a config other than the file's is rejected" begin
    path = save(file("model.jld2"), MobileNet(TINY))
    other = MobileNetConfig(; width_mult=0.1, resolution=32, num_classes=7)
    @test occursin("config must be the file's own", message(() -> load(path; config=other), WeightsError))
    JLD2.jldsave(file("bare.jld2"); model_state=Flux.state(flux_chain(MobileNet(TINY))))
    v2 = MobileNetConfig(; family=:v2)
    text = message(() -> load(file("bare.jld2"); config=v2), WeightsError)
    @test occursin("has 52 Conv. Received: 27", text)
    JLD2.jldsave(file("bare.jld2"); model_state=Flux.state(Flux.Chain(Flux.Dense(2 => 3))))
    @test occursin("0 Conv, 0 BatchNorm, 1 Dense", message(() -> load(file("bare.jld2")), WeightsError))
    JLD2.jldsave(file("bare.jld2"); weights=[1.0])
    @test occursin("no state of a model is under its keys weights", message(() -> load(file("bare.jld2")), WeightsError))
end

@testset "a state under another key, in a Dict or of Lux is read, and a whole model is refused" begin
    chain = flux_chain(MobileNet(TINY))
    state = Flux.state(chain)
    expected = MobileNets.from_flux_state(TINY, state)
    JLD2.jldsave(file("other.jld2"); weights=state, opt_state=(weight=[1.0],))
    contents = read_weights(file("other.jld2"))
    @test contents.state == expected
    @test contents.assumed == ["activation", "resolution"]
    JLD2.jldsave(file("other.jld2"); checkpoint=Dict("model" => state, "epoch" => 3))
    @test read_weights(file("other.jld2")).state == expected
    JLD2.jldsave(file("other.jld2"); first=state, second=state)
    @test occursin("several states, first, second", message(() -> load(file("other.jld2")), WeightsError))
    JLD2.jldsave(file("other.jld2"); model_state=chain)
    @test occursin("a whole model", message(() -> load(file("other.jld2")), WeightsError))
end

"Counts how often a value is constructed or converted."
struct Trap
    value::Int
    Trap(value) = (BUILT[] += 1; new(value))
end
const BUILT = Ref(0)
JLD2.writeas(::Type{Trap}) = Int
JLD2.wconvert(::Type{Int}, trap::Trap) = trap.value
JLD2.rconvert(::Type{Trap}, value::Int) = Trap(value)

@testset "reading a .jld2 constructs no type that it names, and imports nothing" begin
    JLD2.jldsave(file("trap.jld2"); model_state=(a=Trap(1), b=[Trap(2)], c=Base.Libc, d=sin, e=:x))
    BUILT[] = 0
    JLD2.load(file("trap.jld2"), "model_state")
    @test BUILT[] > 0
    BUILT[] = 0
    @test_throws WeightsError load(file("trap.jld2"))
    @test BUILT[] == 0
end

@testset "a damaged .jld2 is rejected with the message of the other formats" begin
    path = save(file("model.jld2"), MobileNet(TINY))
    bytes = read(path)
    write(file("short.jld2"), bytes[1:(end ÷ 2)])
    @test occursin("not a valid jld2 file", message(() -> load(file("short.jld2")), WeightsError))
    rng = StableRNG(1)
    for _ in 1:40
        changed = copy(bytes)
        changed[rand(rng, 513:length(bytes), 20)] .= rand(rng, UInt8, 20)
        write(file("changed.jld2"), changed)
        outcome = try
            load(file("changed.jld2"))
        catch error
            error
        end
        @test outcome isa Union{MobileNet,WeightsError}
    end
end
