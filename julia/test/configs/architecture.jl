using MobileNets: layers
using MobileNets.Configs: Layer, block_and_role, feature_channels, last_map_size, scaled_channels

@testset "V1 has the published numbers of parameters and multiply-adds" begin
    published = [
        (1.0, 224) => (4_231_976, 568_740_352), (0.75, 224) => (2_585_560, 325_400_448),
        (0.5, 224) => (1_331_592, 149_497_088), (0.25, 224) => (470_072, 41_030_272),
        (1.0, 192) => (4_231_976, 418_121_728), (1.0, 160) => (4_231_976, 290_675_200),
        (1.0, 128) => (4_231_976, 186_400_768),
    ]
    for ((width_mult, resolution), counts) in published
        config = MobileNetConfig(; width_mult, resolution)
        @test (num_params(config), mult_adds(config)) == counts
    end
    cifar = MobileNetConfig(; resolution=32, num_classes=100)
    @test (num_params(cifar), mult_adds(cifar)) == (3_309_476, 11_688_448)
end

# torchvision's model card (mobilenet_v2: 3,504,872 parameters, 0.3 GFLOPS); for CIFAR the README of
# chenyaofo/pytorch-cifar-models, which counts the operations of convolutions and classifier, without norms.
@testset "V2 has the published numbers of parameters and multiply-adds" begin
    config = MobileNetConfig(; family=:v2)
    @test (num_params(config), mult_adds(config)) == (3_504_872, 300_774_272)
    @test num_params(MobileNetConfig(; family=:v2, num_classes=100)) == 2_351_972
    cifar(width_mult) =
        MobileNetConfig(; family=:v2, width_mult, resolution=32, num_classes=100, stem_stride=1)
    millions(count) = round(count / 1e6; digits=2)
    for (width_mult, counts) in
        (0.5 => (0.82, 28.08), 0.75 => (1.48, 59.43), 1.0 => (2.35, 88.09), 1.4 => (4.5, 170.23))

        @test millions.((num_params(cifar(width_mult)), mult_adds(cifar(width_mult)))) == counts
    end
end

"The layers of each block by their roles."
function blocks(config)
    by_block = Dict{String,Dict{String,Layer}}()
    for layer in layers(config)
        block, role = block_and_role(layer.name)
        get!(valtype(by_block), by_block, block)[role] = layer
    end
    return [by_block["blocks.$index"] for index in 0:(count(startswith("blocks"), keys(by_block)) - 1)]
end

@testset "V2 is the paper's table, residual if sizes allow, linear at the end of a block" begin
    v2_blocks = blocks(MobileNetConfig(; family=:v2))
    expansions = [1; fill(6, 16)]
    inputs = [block["depthwise"].in_channels for block in v2_blocks] .÷ expansions
    outputs = [block["project"].out_channels for block in v2_blocks]
    strides = [block["depthwise"].stride for block in v2_blocks]
    repeats = (1, 2, 3, 4, 3, 3, 1)
    @test outputs == reduce(vcat, fill.((16, 24, 32, 64, 96, 160, 320), repeats))
    @test inputs == [32; outputs[1:(end - 1)]]
    of_stage(stride, repeats) = [stride; ones(Int, repeats - 1)]
    @test strides == reduce(vcat, of_stage.((1, 2, 2, 2, 1, 2, 1), repeats))
    @test keys(v2_blocks[1]) == Set(["depthwise", "project"])
    @test all(keys(block) == Set(["expand", "depthwise", "project"]) for block in v2_blocks[2:end])
    for layer in layers(MobileNetConfig(; family=:v2))
        @test layer.activation == !endswith(layer.name, "project")
    end
    @test [block["project"].residual for block in v2_blocks] == (strides .== 1) .& (inputs .== outputs)
    @test sum(block["project"].residual for block in v2_blocks) == 10 # 17 blocks, 7 of them the first of a stage
    cifar = MobileNetConfig(; family=:v2, stem_stride=1)
    @test [block["depthwise"].stride for block in blocks(cifar)] == [1; 1; strides[3:end]]
    @test last_map_size(cifar, 32, 32) == last_map_size(MobileNet(cifar), 32, 32) == (4, 4)
    head(width_mult) = feature_channels(MobileNetConfig(; family=:v2, width_mult))
    @test head.((0.35, 1, 1.4)) == (1280, 1280, 1792)
end

# timm 1.0.31: numbers of blocks by stage and of parameters of mobilenetv2_110d and mobilenetv2_120d
@testset "depth multiplier $depth_mult" for (depth_mult, width_mult, repeats, parameters) in (
    (1.2, 1.1, [1, 3, 4, 5, 4, 4, 1], 4_516_520), (1.4, 1.2, [1, 3, 5, 6, 5, 5, 1], 5_831_144),
)
    config = MobileNetConfig(; family=:v2, width_mult, depth_mult)
    widths = [block["project"].out_channels for block in blocks(config)]
    @test [count(==(width), widths) for width in unique(widths)] == repeats
    @test num_params(config) == parameters
    @test first(layers(config)).out_channels == 32
    @test feature_channels(config) == 1280
end

@testset "the bottleneck family has twelve blocks of three convolutions" begin
    bottlenecks = blocks(MobileNetConfig(; family=:v1_bottleneck, width_mult=1))
    outputs = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 1024, 1024]
    @test [block["pointwise"].out_channels for block in bottlenecks] == outputs
    @test [block["depthwise"].stride for block in bottlenecks] == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 2, 1]
    inputs = [32; outputs[1:(end - 1)]]
    @test [block["reduce"].out_channels for block in bottlenecks] == round.(0.9997 .* inputs)
    halved = MobileNetConfig(; family=:v1_bottleneck, bottleneck_ratio=1e-9)
    @test all(block["reduce"].out_channels == 1 for block in blocks(halved))
end

@testset "Keras pads only below and to the right at stride two: $family" for family in Configs.FAMILIES
    for layer in layers(MobileNetConfig(; family, padding=:keras))
        @test layer.padding == (layer.kernel == 1 ? (0, 0) : layer.stride == 2 ? (0, 1) : (1, 1))
    end
end

@testset "a residual sum has the name of its block; probabilities are last" begin
    names = activation_names(TINY_V2)
    @test allunique(names)
    @test "blocks.2.add" in names && !("blocks.0.add" in names)
    @test !("blocks.0.project.act" in names) && "head.act" in names
    @test names[(end - 2):end] == ["pool", "logits", "probabilities"]
    position = findfirst(==("blocks.2.project.norm"), names)
    @test names[position + 1] == "blocks.2.add"
end

@testset "a layer without channels is rejected" begin
    @test message(() -> scaled_channels(MobileNetConfig(; width_mult=0.04), 12), ConfigError) ==
        "width_mult 0.04 leaves none of 12 channels"
end

@testset "names are torch's, sizes are torch's in reverse" begin
    config = MobileNetConfig(; width_mult=0.25)
    shapes = parameter_shapes(config)
    @test shapes[1] == ("stem.conv.weight" => (3, 3, 3, 8))
    @test shapes[4] == ("blocks.0.depthwise.conv.weight" => (3, 3, 1, 8))
    @test shapes[end - 1] == ("classifier.weight" => (256, 1000))
    @test length(shapes) == 3 * 27 + 2 && allunique(first.(shapes))
    @test statistic_shapes(config)[2] == ("stem.norm.running_var" => (8,))
    @test activation_names(config)[[1, 3, end]] == ["stem.conv", "stem.act", "logits"]
    @test last_map_size(config, 224, 200) == (7, 7)
    @test last_map_size(config, 32, 64) == (1, 2)
end
