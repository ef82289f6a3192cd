using MobileNets: read_weights, save, verify, write_weights
using MobileNets.Files: probe_digest, probe_images

folder = mktempdir()
path = joinpath(folder, "a.safetensors")
config = MobileNetConfig(;
    family=:v2, width_mult=0.35, resolution=33, num_classes=7, stem_stride=1
)

@testset "the images of a seed are Python's" begin
    @test probe_digest(probe_images(0, (2, 3, 4, 5))) == # as in parity/test_verify.py
          "2ef05b5ec1ad26924a9a0f3a461d1ce412939e0afb3c20b3e52a35d0a4797920"
end

@testset "the constants of the check are Python's" begin
    tolerances = vectors("tolerances")
    @test Files.PROBE_ALLOWED == tolerances["max_ratio"]
    @test Files.PROBE_DRAWS == tolerances["draws"]
    @test Files.LEAST_ULPS == tolerances["min_floor_ulps"]
end

@testset "a saved model agrees with its probe, in either type: $T" for T in (Float32, Float64)
    save(path, MobileNet(config; dtype=T))
    checks = verify(path)
    @test [check.type for check in checks] == [Float64, Float32]
    @test all(check.passed for check in checks)
    @test all(check.error < check.floor for check in checks)
    @test occursin("agrees", string(checks[1]))
end

"The file with one value of a tensor changed, and the same probe."
function change_value!(path, name)
    file = read_weights(path)
    file.state[name][1] += 1
    return write_weights(path, file.config, file.state; file.metadata)
end

@testset "one changed value is detected: $name" for
    name in ("blocks.9.expand.norm.running_mean", "stem.conv.weight", "classifier.bias")

    save(path, MobileNet(config))
    checks = verify(change_value!(path, name))
    @test !any(check.passed for check in checks)
    @test occursin("DIFFERS", string(checks[1]))
end

@testset "a model whose logits overflow is saved without a probe" begin
    model = MobileNet(config)
    fill!(model.classifier.weight, 3f38)
    save(path, model)
    @test !haskey(read_weights(path).metadata, "probe")
end

@testset "a probe that is missing or invalid is rejected" begin
    save(path, MobileNet(config); probe=false)
    @test occursin("$path: has no probe", message(() -> verify(path), WeightsError))
    save(path, MobileNet(config))
    file = read_weights(path)
    text = file.metadata["probe"]
    function rejection(changed)
        write_weights(path, file.config, file.state; metadata=Dict("probe" => changed))
        return message(() -> verify(path), WeightsError)
    end
    @test occursin("metadata probe: ", rejection("{"))
    @test occursin("must have exactly digest", rejection("{}"))
    @test occursin("not those of its seed 1", rejection(replace(text, "\"seed\":0" => "\"seed\":1")))
    quoted = replace(text, "\"seed\":0" => "\"seed\":\"0\"")
    @test occursin("seed must be a whole number. Received: \"0\"", rejection(quoted))
    shape(changed) = rejection(replace(text, "\"shape\":[2,3,33,33]" => "\"shape\":$changed"))
    @test occursin("must be the logits of 3 images", shape("[3,3,33,33]"))
    @test occursin("shape must be that of images", shape("[2,3,1000000000,1000000000]"))
    @test occursin("shape must be that of images", shape("[2,3,33]"))
    @test occursin("channels must be (7, 3). Received: (7, 1)", shape("[2,1,33,33]"))
end
