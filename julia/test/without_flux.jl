# A process in which Flux is not loaded.

const WITHOUT_FLUX = """
using MobileNets, Test
config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10)
model, x = MobileNet(config), ones(Float32, 32, 32, 3, 2)
optimizer = setup_optimizer(TrainConfig(), model)
message(f) = try f(); "no error" catch error; sprint(showerror, error) end
flux = "requires Flux.jl to be loaded: `using Flux`"
path = joinpath(mktempdir(), "model.safetensors")
@testset "without Flux" begin
    @test MobileNets.freeze(model)(x) ≈ predict(model, x)
    train_step!(model, optimizer, x, [0, 1], 0.1)
    @test predict(MobileNets.load(MobileNets.save(path, model)), x) == predict(model, x)
    front, back = MobileNets.cut(model, 3)
    @test back(front(x)) ≈ predict(model, x)
    @test haskey(MobileNets.versions(), "Flux") # of the project
    @test occursin("flux_chain " * flux, message(() -> MobileNets.flux_chain(model)))
    @test occursin("DeviceWorkspace " * flux, message(() -> DeviceWorkspace(model, :cuda)))
    @test occursin("join_processes " * flux, message(join_processes))
    @test occursin("kernels=:reference " * flux, message(() -> MobileNet(config; kernels=:reference)(x)))
    @test !any(id -> id.name in ("Flux", "NNlib", "Zygote"), keys(Base.loaded_modules))
end
"""

@testset "predictions, training and files do not load Flux; what needs it says so" begin
    command = `$(Base.julia_cmd()) --startup-file=no --project=$(Base.active_project()) -e $WITHOUT_FLUX`
    output = IOBuffer()
    passed = success(pipeline(command; stdout=output, stderr=output))
    passed || @info String(take!(output))
    @test passed
end
