# While a system image is made that holds MobileNets, `LinearAlgebra.__init__` has not run. There is no BLAS then,
# and a call of it ends the process. Nothing is compiled ahead in this case.
isempty(BLAS.get_config().loaded_libs) || @setup_workload begin
    sizes = (; resolution=32, num_classes=2)
    widths = (1 / 4, 1 / 2) # channels that fill wide vectors, and some that do not
    @compile_workload begin
        wait(helper(Team(false))) # of which one thread has none
        mktempdir() do folder
            for dtype in (Float32, Float64), family in ("v1", "v2"), width_mult in widths
                config = MobileNetConfig(; family, width_mult, sizes...)
                path = save(joinpath(folder, "model.safetensors"), build(config; dtype))
                model = load(path)
                x, labels = ones(dtype, 32, 32, 3, 2), [0, 1]
                predict(model, x)
                frozen = freeze(model)
                foreach(n -> frozen(x[:, :, :, 1:n]), (1, 2))
                entry, scores, shape = Entry(frozen), zeros(dtype, 2, 2), [2, 32, 32]
                addresses(entry)
                GC.@preserve x scores shape begin
                    enter(entry, Ptr{Cvoid}(pointer(x)), Ptr{Cvoid}(pointer(scores)), pointer(shape))
                end
                mask = ones(UInt8, mask_sizes(config, x)["stem.act"])
                masks = Dict{String,Array}("stem.act" => mask)
                for given in (nothing, masks)
                    activations(model, x; train=true, masks=given)
                    loss_and_grads(model, x, labels; masks=given)
                end
                for name in OPTIMIZERS
                    train = from_json(TrainConfig, to_json(TrainConfig(; optimizer=name)))
                    optimizer, workspace = setup(train, model), Workspace()
                    train_step!(model, optimizer, x, labels, 0.1; masks=nothing)
                    train_step!(model, optimizer, x, labels, 0.1; workspace)
                    set_state!(model, optimizer, get_state(model, optimizer))
                end
                set_state!(model, Dict{String,Array}(get_state(model)))
            end
        end
    end
end
