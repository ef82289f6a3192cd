using MobileNets: last_map_size

@testset "parameters and multiply-adds are the published ones" begin
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

@testset "names and sizes are torch's, the sizes in reverse" begin
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
