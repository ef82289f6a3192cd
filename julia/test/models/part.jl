# A model cut in two.

using Flux: Flux
using MobileNets: Interop

const V2_KERAS = MobileNetConfig(;
    family=:v2, width_mult=0.1, rounding=:nearest, resolution=32, num_classes=7, stem_stride=1, padding=:keras,
    dropout=0.5,
)
const CASES = (TINY, V2_KERAS)

"Name => gradient of each parameter of a part."
named(part, gradient) = [
    each.name => Interop.gradient_at(gradient, only(each.paths)) for each in Interop.SharedLayer(part).arrays if
    each.is_parameter
]

without_dropout!(parts...) = foreach(part -> part.masks = Dict{String,Array}(), parts)

@testset "back(front(x)) is model(x), bit by bit: $(config.family), $kernels, $T" for config in CASES,
    (kernels, channels_last, T) in
    ((:fast, false, Float64), (:fast, true, Float32), (:reference, false, Float64))

    model = MobileNet(config; dtype=T, kernels)
    x, _ = example(T; config, size=(33, 21))
    for k in (0, 1, length(model.blocks))
        front, back = MobileNets.cut(model, k; channels_last)
        @test back(front(x)) == model(x)
        @test (length(front.blocks), length(back.blocks)) == (k, length(model.blocks) - k)
        @test size(front(x), 4) == size(x, 4)
    end
end

@testset "the layouts of the maps differ by a permutation" begin
    model = MobileNet(TINY)
    x, _ = example(Float32; size=(33, 21))
    maps = first(MobileNets.cut(model, 2))(x)
    @test permutedims(maps, (3, 1, 2, 4)) == first(MobileNets.cut(model, 2; channels_last=true))(x)
end

@testset "gradients and running statistics are those of a step: $(config.family), $kernels" for config in CASES,
    kernels in (:fast, :reference)

    model, stepped = (MobileNet(config; dtype=Float64, kernels) for _ in 1:2)
    x, labels = example(Float64; config, size=(17, 23))
    loss, expected = MobileNets.train_step!(stepped, setup_optimizer(TrainConfig(; momentum=0), stepped), x, labels, 0.0)
    before = deepcopy(get_state(model))
    for k in (0, 2, length(model.blocks))
        MobileNets.set_state!(model, before)
        front, back = MobileNets.cut(model, k; channels_last=kernels == :fast)
        without_dropout!(front, back)
        value, gradients = Flux.withgradient(front, back, x) do first_part, second_part, images
            Kernels.cross_entropy(second_part(first_part(images)), labels)
        end
        @test value ≈ loss rtol = 1e-14
        found = Dict([named(front, gradients[1]); named(back, gradients[2])])
        @test keys(found) == keys(Dict(expected))
        @test all(relative_error(found[name], gradient) < 1e-12 for (name, gradient) in expected)
        @test size(gradients[3]) == size(x)
        @test get_state(model) == get_state(stepped)
    end
end

@testset "the gradient of the input" begin
    model = MobileNet(TINY; dtype=Float64)
    x, labels = example(Float64; size=(9, 7))
    front, back = MobileNets.cut(model, 1)
    objective(images) = Kernels.cross_entropy(back(front(images)), labels)
    foreach(Flux.testmode!, (front, back)) # so that finite differences leave the statistics alone
    gradient, = Flux.gradient(objective, x)
    @test deviation(gradient, finite_differences(() -> objective(x), x; stride=17)) < 1e-6
end

@testset "modes are those of Flux's layers" begin
    model = MobileNet(TINY; dtype=Float64)
    x, _ = example(Float64; size=(33, 21))
    front, _ = MobileNets.cut(model, 1)
    state() = deepcopy(get_state(model))
    before = state()
    front(x)
    Flux.gradient(part -> sum(part(x)), Flux.testmode!(front))
    @test state() == before
    Flux.gradient(part -> sum(part(x)), Flux.testmode!(front, :auto))
    @test state() != before
    Flux.trainmode!(front)
    before = state()
    front(x)
    @test state() != before
end

@testset "dropout draws factors in training, and masks replace them" begin
    model = MobileNet(V2_KERAS; dtype=Float64)
    x, _ = example(Float64; config=V2_KERAS, size=(33, 21))
    front, back = MobileNets.cut(model, 1)
    maps = front(x)
    Flux.trainmode!(back)
    @test back(maps) != back(maps)
    without_dropout!(back)
    @test back(maps) == back(maps)
end

@testset "parts are layers among others" begin
    model = MobileNet(TINY)
    x, labels = example(Float32; size=(33, 21))
    front, back = MobileNets.cut(model, 3)
    channels = size(front(x), 3)
    chain = Flux.Chain(front, Flux.Conv((1, 1), channels => channels), back)
    optimizer = Flux.setup(Flux.Descent(0.1), chain)
    before = deepcopy(get_state(model))
    gradient, = Flux.gradient(m -> Kernels.cross_entropy(m(x), labels), chain)
    Flux.update!(optimizer, chain, gradient)
    moved = [name for ((name, old), (_, new)) in zip(before, get_state(model)) if old != new]
    @test moved == first.(before)
    @test Flux.f64(front)(Float64.(x)) ≈ front(x) rtol = 1e-4
    @test deepcopy(front)(x) == front(x)
    @test startswith(sprint(show, front), "Part(stem, blocks.0, ")
end

@testset "what does not fit is refused" begin
    model = MobileNet(TINY)
    @test occursin("after 0 to 13 blocks. Received: 14", message(() -> MobileNets.cut(model, 14), ConfigError))
    reference = MobileNet(TINY; kernels=:reference)
    @test occursin("requires the fast kernels", message(() -> MobileNets.cut(reference, 1; channels_last=true), ConfigError))
    front, back = MobileNets.cut(model, 1)
    x, _ = example(Float32; size=(33, 21))
    @test occursin("3 channels at axis 3", message(() -> front(x[:, :, 1:2, :]), DataError))
    @test occursin("of Float32", message(() -> front(Float64.(x)), DataError))
    @test occursin("not empty", message(() -> back(front(x)[:, :, :, 1:0]), DataError))
    back.masks = Dict{String,Array}("blocks.1.depthwise.act" => ones(UInt8, 2, 2, 2, 2))
    @test occursin("must be UInt8", message(() -> back(front(x)), DataError))
    back.masks = Dict{String,Array}("stem.act" => ones(UInt8, 2, 2, 2, 2))
    @test occursin("no such activation", message(() -> back(front(x)), DataError))
    back.masks = nothing
    _, pullback = Flux.pullback(front, x)
    @test occursin("must have its size", message(() -> pullback(ones(Float32, 1, 1, 1, 1)), DataError))
    Flux.trainmode!(back)
    @test occursin("two values per channel", message(() -> back(ones(Float32, 1, 1, size(front(x), 3), 1)), DataError))
end
