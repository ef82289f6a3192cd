@testset "JSON has the bytes of Python's, and round-trips" begin
    config = MobileNetConfig(; width_mult=0.25, resolution=32, num_classes=100)
    @test to_json(config) ==
        """{"activation":"relu6","bottleneck_ratio":null,"dropout":0.0,"family":"v1",""" *
        """"in_channels":3,"norm_eps":1e-05,"norm_momentum":0.1,"num_classes":100,""" *
        """"padding":"symmetric","resolution":32,"rounding":"floor","softmax":false,""" *
        """"stem_stride":2,"width_mult":0.25}"""
    @test to_json(TrainConfig()) ==
        """{"accumulate":1,"alpha":0.99,"batch_size":128,"beta1":0.9,"beta2":0.999,"clip_norm":0.0,""" *
        """"crop_padding":4,"cutout":0,"decay_all":true,"div_factor":25.0,"ema_decay":0.0,"eps":1e-08,""" *
        """"final_div_factor":10000.0,"final_rate":0.0,"flip":true,"gamma":0.1,""" *
        """"initial_square_avg":0.0,"label_smoothing":0.0,"milestones":[],"mixup":0.0,""" *
        """"momentum":0.9,"nesterov":false,"optimizer":"sgd","pct_start":0.3,""" *
        """"preprocessing":"standard","rate":0.1,"rotation":0,"schedule":"constant","seed":0,""" *
        """"step_size":0,"steps":200,"warmup_steps":0,"weight_decay":0.0}"""
    without_schedule = """{"batch_size":128,"momentum":0.9,"optimizer":"sgd","rate":0.1,"steps":200}"""
    @test from_json(TrainConfig, without_schedule) == TrainConfig()
    with_milestones = TrainConfig(; optimizer="adam", seed=typemax(Int), schedule="milestones", milestones=[3, 50])
    @test with_milestones.milestones === (3, 50)
    for value in (config, TINY_V2, TINY_BOTTLENECK, with_milestones)
        @test from_json(typeof(value), to_json(value)) == value
    end
    @test from_json(MobileNetConfig, """{"width_mult":1,"resolution":192.0}""").resolution === 192
end

@testset "a value outside its range is rejected with field, rule and value" begin
    cases = [
        (family="v9",) => "family must be one of v1, v1_bottleneck, v2. Received: \"v9\"",
        (rounding="up",) =>
            "rounding must be one of floor, nearest, multiple_of_8. Received: \"up\"",
        (padding="same",) => "padding must be one of symmetric, keras. Received: \"same\"",
        (softmax=1,) => "softmax must be true or false. Received: 1",
        (bottleneck_ratio=0.5,) =>
            "bottleneck_ratio belongs to the family v1_bottleneck alone. Received: 0.5 with v1",
        (family="v1_bottleneck", bottleneck_ratio=0) =>
            "bottleneck_ratio must be in (0, 1]. Received: 0",
        (family="v1_bottleneck", width_mult=0.01) =>
            "at least one, with rounding \"nearest\". Received: 0.01",
        (activation="gelu",) => "activation must be one of relu6, relu. Received: \"gelu\"",
        (width_mult=3,) => "width_mult must be in (0, 2]. Received: 3",
        (width_mult=0.01,) => "width_mult must leave the 32 channels of the stem at least one, " *
            "with rounding \"floor\". Received: 0.01",
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
    for (fields, text) in cases
        @test endswith(message(() -> MobileNetConfig(; fields...), ConfigError), text)
    end
    @test message(() -> TrainConfig(; flip=1), ConfigError) ==
        "flip must be true or false. Received: 1"
    @test message(() -> TrainConfig(; mixup=0.2), ConfigError) ==
        "mixup must be 0 (off) or 1 (uniform weights). Received: 0.2"
    @test message(() -> TrainConfig(; rotation=181), ConfigError) ==
        "rotation must be in [0, 180] degrees. Received: 181"
    @test message(() -> TrainConfig(; preprocessing="tf"), ConfigError) ==
        "preprocessing must be one of unit, standard, keras. Received: \"tf\""
    @test message(() -> TrainConfig(; seed=-1), ConfigError) ==
        "seed must be in [0, 2^63). Received: -1"
    combinations = [
        (optimizer="lion",) =>
            "optimizer must be one of sgd, adam, adamw, rmsprop, rmsprop_tf. Received: \"lion\"",
        (weight_decay=2,) => "weight_decay must be in [0, 1]. Received: 2",
        (milestones=[2, 2],) =>
            "milestones must be increasing whole numbers, at least 1. Received: [2, 2]",
        (milestones=3,) =>
            "milestones must be increasing whole numbers, at least 1. Received: 3",
        (milestones=(1.5,),) =>
            "milestones must be increasing whole numbers, at least 1. Received: (1.5,)",
        (nesterov=true, optimizer="adam") =>
            "nesterov requires the optimizer sgd with momentum. Received: adam with momentum 0.9",
        (nesterov=true, momentum=0) =>
            "nesterov requires the optimizer sgd with momentum. Received: sgd with momentum 0.0",
        (initial_square_avg=1, optimizer="rmsprop") =>
            "initial_square_avg requires the optimizer rmsprop_tf. Received: 1.0 with rmsprop",
        (schedule="step",) => "step_size must be at least 1 for the schedule step. Received: 0",
        (accumulate=3,) => "accumulate must divide batch_size. Received: 3 with batch_size 128",
        (accumulate=0,) => "accumulate must be at least 1. Received: 0",
        (schedule="milestones",) => "milestones must not be empty for the schedule milestones. Received: ()",
    ]
    for (fields, text) in combinations
        @test message(() -> TrainConfig(; fields...), ConfigError) == text
    end
    @test occursin("has no field \"depth\"", message(
        () -> from_json(MobileNetConfig, """{"depth":1}"""), ConfigError
    ))
    @test startswith(message(() -> from_json(TrainConfig, "[1]"), ConfigError), "TrainConfig: not a JSON")
    @test sprint(showerror, ConfigError("text")) == "ConfigError: text"
end

@testset "defaults depend on the family, and null stands for the default" begin
    default(family, name) = getfield(MobileNetConfig(; family), name)
    names = (:width_mult, :rounding, :bottleneck_ratio)
    @test default.("v1", names) === (1.0, "floor", nothing)
    @test default.("v1_bottleneck", names) === (0.1, "nearest", 0.9997)
    @test default.("v2", names) === (1.0, "multiple_of_8", nothing)
    text = """{"family":"v1_bottleneck","rounding":null}"""
    @test from_json(MobileNetConfig, text) == MobileNetConfig(; family="v1_bottleneck")
end

@testset "widths are rounded by three rules" begin
    @test MobileNets.rounded.((32, 1024, 64), (0.7, 0.3, 0.999), "floor") == (22, 307, 63)
    @test MobileNets.rounded.((1024, 64, 5, 7), (0.3, 0.999, 0.5, 0.5), "nearest") == (307, 64, 2, 4)
    # 11.2 would lose more than a tenth at 8
    channels, multipliers = (24, 160, 32, 96, 3), (0.35, 0.35, 0.35, 0.75, 0.1)
    @test MobileNets.rounded.(channels, multipliers, "multiple_of_8") == (8, 56, 16, 72, 8)
end

@testset "rho selects the nearest resolution of the paper, with a warning" begin
    @test MobileNets.from_multipliers(0.5, 1.0) == MobileNetConfig(; width_mult=0.5)
    config = @test_logs (:warn, r"127.68 pixels.*resolution 128") MobileNets.from_multipliers(1, 0.57)
    @test config.resolution == 128
    @test_throws ConfigError MobileNets.from_multipliers(1, 0)
end

@testset "options are symbols or strings" begin
    symbols = MobileNetConfig(; family=:v2, rounding=:floor, padding=:keras, activation=:relu)
    strings = MobileNetConfig(; family="v2", rounding="floor", padding="keras", activation="relu")
    @test symbols == strings && symbols.family === "v2"
    @test TrainConfig(; optimizer=:adam, schedule=:cosine, preprocessing=:unit) ==
        TrainConfig(; optimizer="adam", schedule="cosine", preprocessing="unit")
    @test MobileNets.rounded(32, 0.55, "nearest") == MobileNets.rounded(32, 0.55, :nearest) == 18
    @test message(() -> MobileNetConfig(; family=:v9), ConfigError) ==
        "family must be one of v1, v1_bottleneck, v2. Received: :v9"
    @test message(() -> MobileNets.rounded(32, 0.55, :up), ConfigError) ==
        "rounding must be one of floor, nearest, multiple_of_8. Received: :up"
end

"A message as in the vectors: up to the received value, with double quotes, which Python and Julia print differently."
shared_message(text) = replace(first(split(text, " Received: ")), '\'' => '"')

@testset "defaults and checks are those of the shared vectors: $n" for
    (n, case) in enumerate(vectors("config")["cases"])

    T = getfield(MobileNets, Symbol(case["config"]))
    read() = from_json(T, Configs.JSON.json(case["fields"]))
    if haskey(case, "json")
        @test to_json(read()) == case["json"]
    else
        @test shared_message(message(read, ConfigError)) == case["error"]
    end
end
