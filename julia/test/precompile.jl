# The package does not load where what is compiled ahead throws: it must pass whatever values a machine computes.
using MobileNets: parameters, rehearsals, rehearse

@testset "weights stay what they were: $dtype, $(config.family), alpha $(config.width_mult), images $name" for
    (dtype, config) in rehearsals(), (name, images) in (
        ("alike", ones(dtype, 32, 32, 3, 2)), ("drawn", randn(StableRNG(1), dtype, 32, 32, 3, 2)),
    )

    trained = mktempdir(folder -> rehearse(images, config, joinpath(folder, "model.safetensors")))
    @test parameters(trained) == parameters(build(config; dtype))
end
