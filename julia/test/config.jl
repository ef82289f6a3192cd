@testset "JSON is the bytes Python writes, and reads back" begin
    config = MobileNetConfig(; width_mult=0.25, resolution=32, num_classes=100)
    @test to_json(config) ==
        """{"activation":"relu6","dropout":0.0,"family":"v1","in_channels":3,"norm_eps":1e-05,""" *
        """"norm_momentum":0.1,"num_classes":100,"resolution":32,"stem_stride":2,"width_mult":0.25}"""
    @test to_json(TrainConfig()) ==
        """{"batch_size":128,"beta1":0.9,"beta2":0.999,"crop_padding":4,"eps":1e-08,"flip":true,""" *
        """"momentum":0.9,"optimizer":"sgd","rate":0.1,"seed":0,"steps":200}"""
    for value in (config, TrainConfig(; optimizer="adam", seed=typemax(Int)))
        @test from_json(typeof(value), to_json(value)) == value
    end
    @test from_json(MobileNetConfig, """{"width_mult":1,"resolution":192.0}""").resolution === 192
end

@testset "a value outside its range is refused with field, rule and value" begin
    refusals = [
        (family="v9",) => "family must be one of v1. Received: \"v9\"",
        (activation="gelu",) => "activation must be one of relu6, relu. Received: \"gelu\"",
        (width_mult=3,) => "width_mult must be in (0, 2]. Received: 3",
        (width_mult=0.01,) => "at least one: trunc(32 * width_mult) >= 1. Received: 0.01",
        (width_mult="1",) => "width_mult must be in (0, 2]. Received: \"1\"",
        (resolution=31,) => "resolution must be in [32, 4096] pixels. Received: 31",
        (resolution=32.5,) => "resolution must be a whole number, in [32, 4096] pixels. Received: 32.5",
        (num_classes=0,) => "num_classes must be in [1, 1000000]. Received: 0",
        (in_channels=true,) => "in_channels must be in [1, 4096]. Received: true",
        (stem_stride=3,) => "stem_stride must be 1 or 2. Received: 3",
        (norm_eps=NaN,) => "norm_eps must be in [1e-12, 1]. Received: NaN",
        (norm_momentum=-0.1,) => "norm_momentum must be in [0, 1]. Received: -0.1",
        (dropout=1,) => "dropout must be in [0, 0.999]. Received: 1",
    ]
    for (fields, text) in refusals
        @test endswith(message(() -> MobileNetConfig(; fields...), ConfigError), text)
    end
    @test message(() -> TrainConfig(; flip=1), ConfigError) ==
        "flip must be true or false. Received: 1"
    @test message(() -> TrainConfig(; seed=-1), ConfigError) ==
        "seed must be in [0, 2^63). Received: -1"
    @test occursin("has no field \"depth\"", message(
        () -> from_json(MobileNetConfig, """{"depth":1}"""), ConfigError
    ))
    @test startswith(message(() -> from_json(TrainConfig, "[1]"), ConfigError), "TrainConfig: not a JSON")
    @test sprint(showerror, ConfigError("text")) == "ConfigError: text"
end

@testset "rho picks the nearest resolution of the paper and says so" begin
    @test from_multipliers(0.5, 1.0) == MobileNetConfig(; width_mult=0.5)
    config = @test_logs (:warn, r"127.68 pixels.*resolution 128") from_multipliers(1, 0.57)
    @test config.resolution == 128
    @test_throws ConfigError from_multipliers(1, 0)
end
