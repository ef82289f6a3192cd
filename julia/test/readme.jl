# The examples of the README and of the manual run.

"A checkpoint of a run that stopped after one of `steps` steps."
function write_checkpoint(path, steps)
    config = TrainConfig(; steps, batch_size=128)
    model = MobileNet(TINY; seed=0)
    x, labels = example(Float32)
    optimizer = setup_optimizer(config, model)
    train_step!(model, optimizer, x, labels, rate_at(config, 1))
    return MobileNets.save(path, model; optimizer, metadata=Dict("train" => to_json(config)))
end

"The code of the ```julia blocks of a Markdown file that do not install packages."
function julia_code(path)
    blocks = [m[1] for m in eachmatch(r"```julia\n(.*?)```"s, read(path, String))]
    return join(filter(block -> !contains(block, "using Pkg"), blocks))
end

@testset "the examples of $(basename(path)) run, with 130 images and for two steps" for
    path in (joinpath(pkgdir(MobileNets), "README.md"), joinpath(pkgdir(MobileNets), "docs", "src", "index.md"))

    mktempdir() do folder
        images = mkpath(joinpath(folder, "cifar-100-binary"))
        bytes = rand(StableRNG(3), UInt8, 3074, 130)
        bytes[1:2, :] .%= TINY.num_classes
        write(joinpath(images, "train.bin"), bytes)
        write_checkpoint(joinpath(mkpath(joinpath(folder, "run")), "last.safetensors"), 3)
        scope = Module()
        cd(folder) do
            Base.include_string(scope, replace(julia_code(path), "steps=200" => "steps=2"))
            @test isfile("model.safetensors") && isfile("model.jld2")
        end
        @test only(Dict(get_state(scope.model, scope.optimizer))["optimizer.step"]) == 3
    end
end
