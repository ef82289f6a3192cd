using MobileNets: flux_chain
using MobileNets.Files: PUBLISHED_MULTIPLIERS, first_float, infer_config, shortest_decimal
using Flux: Flux
using MobileNets.Models: state_shapes

@testset "the config is that of the shared vectors: $n" for (n, case) in enumerate(vectors("infer_config")["cases"])
    config = from_json(MobileNetConfig, Configs.JSON.json(case["config"]))
    shapes = Dict{String,Tuple{Vararg{Int}}}(state_shapes(config))
    for (name, shape) in case["changes"]
        shapes[name] = Tuple(reverse(shape))
    end
    infer() = infer_config(config.family, shapes; rounding=case["rounding"])
    if haskey(case, "inferred")
        @test to_json(infer()) == case["inferred"]
    else
        @test message(infer, WeightsError) == case["error"]
    end
end

@testset "preferred multipliers are those of the shared vectors" begin
    preferred = vectors("infer_config")["published"]
    @test keys(preferred) == Set(string.(keys(PUBLISHED_MULTIPLIERS)))
    @test all(collect(PUBLISHED_MULTIPLIERS[Symbol(name)]) == values for (name, values) in preferred)
end

@testset "the first float of a monotone condition is found exactly" begin
    @test first_float(>=(0.3), 2.0) === 0.3
    @test first_float(>(0.3), 2.0) === nextfloat(0.3)
    @test first_float(_ -> true, 2.0) === nextfloat(0.0)
    @test first_float(_ -> false, 2.0) === nextfloat(2.0)
end

@testset "the shortest decimal of an interval is its smallest" begin
    @test shortest_decimal(0.29, 0.41) === 0.3
    @test shortest_decimal(1 / 3, 0.3334) === 0.33334
    @test shortest_decimal(0.1, nextfloat(0.1)) === 0.1
    @test shortest_decimal(1 / 3, nextfloat(1 / 3)) === 1 / 3
end

@testset "the state of a stock chain gives its config: $(config.family)" for config in (
    MobileNetConfig(; width_mult=0.3331, num_classes=3), MobileNetConfig(; family=:v2, width_mult=1.4, norm_eps=1e-3),
    MobileNetConfig(; family=:v1_bottleneck, bottleneck_ratio=0.5, stem_stride=1, padding=:keras),
    MobileNetConfig(; family=:v2, width_mult=0.5, depth_mult=1.2), MobileNetConfig(; width_mult=0.25, head_conv=true),
)
    state = Flux.state(flux_chain(MobileNet(config)))
    @test MobileNets.infer_config(state) == config
    @test MobileNets.infer_config(state; resolution=32).resolution == 32
    invalid() = MobileNets.infer_config(state; source="f", width_mult=9)
    @test occursin("f: width_mult must be", message(invalid, WeightsError))
end

@testset "a state of no family is rejected with the numbers of its layers" begin
    state = Flux.state(Flux.Chain(Flux.Dense(2 => 3)))
    @test message(() -> MobileNets.infer_config(state; source="f"), WeightsError) ==
        "f: layers must be those of a known family. Received: 0 Conv, 0 BatchNorm, 1 Dense; give the config"
end
