# What users run is run once while the package is compiled, so that a session need not compile it.

"""
    rehearse(images, config, path)

Save, load, predict and train a model of `config` with two `images` (W, H, C, 2); the model trained. Steps have a rate
of 0: weights stay what they are, and finite, however the machine's BLAS rounds.
"""
function rehearse(@nospecialize(images), @nospecialize(config), path)
    dtype = eltype(images)
    model = load(save(path, build(config; dtype)))
    predict(model, images)
    frozen = freeze(model)
    foreach(n -> frozen(images[:, :, :, 1:n]), (1, 2))
    entry, scores, shape = Entry(frozen), zeros(dtype, config.num_classes, 2), [2, size(images, 2), size(images, 1)]
    addresses(entry)
    labels, mask = [0, 1], ones(UInt8, mask_sizes(config, images)["stem.act"])
    masks = Dict{String,Array}("stem.act" => mask)
    GC.@preserve images labels scores shape begin
        enter(entry, Ptr{Cvoid}(pointer(images)), Ptr{Cvoid}(pointer(scores)), pointer(shape))
        foreach(given -> array_at(eltype(given), Int(pointer(given)), size(given)), (images, labels))
    end
    for given in (nothing, masks)
        activations(model, images; train=true, masks=given)
        loss_and_grads(model, images, labels; masks=given)
    end
    for name in OPTIMIZERS
        train = from_json(TrainConfig, to_json(TrainConfig(; optimizer=name)))
        optimizer, workspace = setup(train, model), Workspace()
        train_step!(model, optimizer, images, labels, 0.0; masks=nothing)
        train_step!(model, optimizer, images, labels, 0.0; workspace)
        set_state!(model, optimizer, get_state(model, optimizer))
    end
    return set_state!(model, Dict{String,Array}(get_state(model)))
end

"Small nets to rehearse: channels that fill wide vectors, and some that do not."
rehearsals() = [
    (dtype, MobileNetConfig(; family, width_mult, resolution=32, num_classes=2)) for
    dtype in (Float32, Float64) for family in ("v1", "v2") for width_mult in (1 / 4, 1 / 2)
]

# While a system image is made that holds MobileNets, `LinearAlgebra.__init__` has not run. There is no BLAS then,
# and a call of it ends the process. Nothing is compiled ahead in this case.
isempty(BLAS.get_config().loaded_libs) || @compile_workload begin
    wait(helper(Team(false))) # of which one thread has none
    mktempdir() do folder
        for (dtype, config) in rehearsals()
            images = sin.(reshape(dtype.(1:(2 * 3 * 32^2)), 32, 32, 3, 2))
            rehearse(images, config, joinpath(folder, "model.safetensors"))
        end
    end
end
