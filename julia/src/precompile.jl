# The functions that users call are called once while the package is precompiled, so that a session does not compile
# them.

using LinearAlgebra: BLAS
using PrecompileTools: @compile_workload

"""
Save, load, freeze, predict and train a model of `config` with two `images` (W, H, C, 2), and return it. The learning
rate of the steps is 0, so that the weights do not change and stay finite, however the BLAS of the machine rounds.
"""
function precompile_workload(@nospecialize(images), @nospecialize(config), path)
    dtype = eltype(images)
    model = load(save(path, MobileNet(config; dtype)))
    predict(model, images)
    frozen = freeze(model)
    foreach(n -> frozen(images[:, :, :, 1:n]), (1, 2))
    precompile_frozen_call(FrozenCall(frozen), images)
    labels, mask = [0, 1], ones(UInt8, Models.mask_sizes(config, images)["stem.act"])
    for masks in (nothing, Dict{String,Array}("stem.act" => mask))
        activations(model, images; train=true, masks)
        loss_and_grads(model, images, labels; masks)
    end
    for name in Configs.OPTIMIZERS
        train = from_json(TrainConfig, to_json(TrainConfig(; optimizer=name)))
        optimizer, workspace = setup_optimizer(train, model), Workspace()
        train_step!(model, optimizer, images, labels, 0.0; masks=nothing)
        train_step!(model, optimizer, images, labels, 0.0; workspace)
        set_state!(model, optimizer, get_state(model, optimizer))
    end
    precompile_c_calls(to_json(config), images)
    return set_state!(model, Dict{String,Array}(get_state(model)))
end

"Every operation of c_calls.jl that a model on the CPU needs."
function precompile_c_calls(config, images)
    dtype = findfirst(==(eltype(images)), C_TYPES) - 1
    labels, logits = [0, 1], zeros(eltype(images), 2, 2)
    function call(operation, objects=(), arrays=Pair{String,Array}[]; number=0.0, flag=0, text="")
        tensors = [c_tensor(first(pair), last(pair)) for pair in arrays]
        handles = ntuple(k -> k <= length(objects) ? objects[k] : 0, 4)
        position = findfirst(==(operation), C_OPERATIONS) - 1
        GC.@preserve arrays tensors text begin
            argument = Ref(CCall(
                position, handles, number, flag, Cstring(pointer(text)), length(arrays), pointer(tensors),
                0, 0.0, 0, Ptr{CTensor}(), Cstring(C_NULL),
            ))
            GC.@preserve argument c_call(Base.unsafe_convert(Ptr{CCall}, argument))
            return argument[].result
        end
    end
    c_call_address()
    precompile(event_loop_address, ())
    precompile(run_event_loop, ())
    model = call(c_new_model; text="fast $dtype $config")
    workspace = call(c_new_workspace, (model,); text="cpu")
    optimizer = call(c_new_optimizer, (model,); text=to_json(TrainConfig()))
    state = [name => array for (name, array) in get_state(object_of(model))]
    call(c_set_state, (model,), Pair{String,Array}[name => copy(array) for (name, array) in state])
    batch = Pair{String,Array}["" => images, "" => labels]
    results = [
        call(c_predict, (model, workspace), ["" => images, "" => logits]),
        call(c_freeze, (model,)),
        call(c_activations, (model,), ["" => images]; flag=1),
        call(c_loss_and_grads, (model, workspace), batch),
        call(c_step, (model, workspace, optimizer), batch),
        call(c_get_state, (model, optimizer)),
        call(c_new_optimizer, (model,); text="{"), # an error
    ]
    handles = filter(!=(0), [model, workspace, optimizer, results...])
    call(c_drop, (), ["" => handles])
    call(c_collect)
    return nothing
end

function precompile_frozen_call(call, images)
    (; num_classes) = call.frozen.model.config
    scores, shape = zeros(eltype(images), num_classes, 2), [2, size(images, 2), size(images, 1)]
    labels = [0, 1]
    addresses(call)
    GC.@preserve images labels scores shape begin
        Models.call_frozen(call, Ptr{Cvoid}(pointer(images)), Ptr{Cvoid}(pointer(scores)), pointer(shape))
        foreach(array -> array_at(eltype(array), Int(pointer(array)), size(array)), (images, labels))
    end
end

"Small models for the workload: with channels that fill wide vectors, and with others."
precompile_cases() = [
    (dtype, MobileNetConfig(; family, width_mult, resolution=32, num_classes=2)) for
    dtype in (Float32, Float64) for family in ("v1", "v2") for width_mult in (1 / 4, 1 / 2)
]

# While a system image that contains MobileNets is built, `LinearAlgebra.__init__` has not run, and a call of BLAS
# ends the process. Nothing is precompiled then.
isempty(BLAS.get_config().loaded_libs) || @compile_workload begin
    wait(schedule(Kernels.helper_task(Kernels.Team(false), 1))) # a single thread has no helpers
    mktempdir() do folder
        for (dtype, config) in precompile_cases()
            images = sin.(reshape(dtype.(1:(2 * 3 * 32^2)), 32, 32, 3, 2))
            precompile_workload(images, config, joinpath(folder, "model.safetensors"))
        end
    end
end
