# Runs the `jldoctest` blocks of the docstrings and compares what each prompt prints.

"The (code, printed) pairs of a block."
function prompts(block)
    parts = split(block, r"^julia> "m; keepempty=false)
    return [Tuple(strip.(split(part, '\n'; limit=2))) for part in parts if !isempty(strip(part))]
end

function printed(value, code)
    (isnothing(value) || endswith(code, ';')) && return ""
    return strip(sprint(show, MIME("text/plain"), value; context=:module => MobileNets))
end

docstrings = [
    join(text.text) for multi in values(Base.Docs.meta(MobileNets)) for text in values(multi.docs)
]
blocks = [m[1] for text in docstrings for m in eachmatch(r"```jldoctest\n(.*?)```"s, text)]

@testset "every example of the docstrings prints what it says" begin
    @test length(blocks) >= 8
    for block in blocks
        scope = Module()
        Core.eval(scope, :(using MobileNets))
        for (code, wanted) in prompts(block)
            value = Core.eval(scope, Meta.parse(replace(code, r" \|> println$" => "")))
            @test (endswith(code, "println") ? value : printed(value, code)) == wanted
        end
    end
end

@testset "every exported name has a docstring" begin
    for name in names(MobileNets)
        @test haskey(Base.Docs.meta(MobileNets), Base.Docs.Binding(MobileNets, name))
    end
end

"The file `path` as a run leaves it that stopped after one of `steps` steps."
function write_checkpoint(path, steps)
    config = TrainConfig(; steps, batch_size=128)
    model = build(TINY; seed=0)
    x, labels = example(Float32)
    optimizer = setup(config, model)
    train_step!(model, optimizer, x, labels, rate_at(config, 1))
    return MobileNets.save(path, model; optimizer, metadata=Dict("train" => to_json(config)))
end

@testset "the README's examples run, on 130 images and for two steps" begin
    readme = read(joinpath(pkgdir(MobileNets), "README.md"), String)
    blocks = [m[1] for m in eachmatch(r"```julia\n(.*?)```"s, readme)]
    code = join(filter(block -> !contains(block, "Pkg.develop"), blocks))
    mktempdir() do folder
        images = mkpath(joinpath(folder, "cifar-100-binary"))
        bytes = rand(StableRNG(3), UInt8, 3074, 130)
        bytes[1:2, :] .%= TINY.num_classes
        write(joinpath(images, "train.bin"), bytes)
        write_checkpoint(joinpath(mkpath(joinpath(folder, "run")), "last.safetensors"), 3)
        scope = Module()
        cd(folder) do
            Base.include_string(scope, replace(code, "steps=200" => "steps=2"))
            @test isfile("model.safetensors") && isfile("model.jld2")
        end
        @test only(Dict(get_state(scope.model, scope.optimizer))["optimizer.step"]) == 3
    end
end
