# The package does not load if its precompile workload throws, so the workload must not depend on computed values.
using MobileNets: precompile_cases, precompile_workload
using MobileNets.Models: parameters

@testset "weights do not change: $dtype, $(config.family), alpha $(config.width_mult), images $name" for
    (dtype, config) in precompile_cases(), (name, images) in (
        ("constant", ones(dtype, 32, 32, 3, 2)), ("random", randn(StableRNG(1), dtype, 32, 32, 3, 2)),
    )

    trained = mktempdir(folder -> precompile_workload(images, config, joinpath(folder, "model.safetensors")))
    @test parameters(trained) == parameters(MobileNet(config; dtype))
end
