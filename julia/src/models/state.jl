# The state of a model: canonical names => arrays, checked before any is copied. It contains all parameters and running
# statistics and, with an optimizer, its slots as `optimizer.<slot>.<parameter>` and the number of steps as
# `optimizer.step` (Int64, without axes).

const OPTIMIZER_STEP = "optimizer.step"

const NamedArrays = Vector{Pair{String,Array}}

const Shapes = Configs.Shapes

"Canonical name => size of all parameters and running statistics."
state_shapes(config) = [parameter_shapes(config); statistic_shapes(config)]

"Name => size of the arrays that an optimizer with the given slots adds to the state; none without slots."
function optimizer_shapes(config, slots)
    isempty(slots) && return Shapes()
    shapes = Shapes([
        "optimizer.$slot.$name" => shape for slot in slots for
        (name, shape) in parameter_shapes(config)
    ])
    return push!(shapes, OPTIMIZER_STEP => ())
end

"The optimizer slots in a state, sorted."
function slots_of(state)
    names = [split(name, '.') for name in keys(state) if startswith(name, "optimizer.")]
    return sort!(unique(String(name[2]) for name in names if length(name) > 2))
end

"""
    MobileNets.check_state(config, state, T, slots=String[]; source="state")

Check that `state`, a `Dict` of name => array, is exactly the one that `config` and the optimizer `slots` require,
with element type `T`. `source` is named in errors.

Throws a `WeightsError` that names the missing and the unexpected tensors; if there are none, the first tensor that
has another size or type, is not finite, or is a negative variance; or the layer that `config` leaves without
channels.
"""
function check_state(
    config::MobileNetConfig, state::AbstractDict, T::Type, slots=String[]; source="state"
)
    shapes = try
        [state_shapes(config); optimizer_shapes(config, slots)]
    catch error # a width that leaves a layer without channels
        error isa ConfigError || rethrow()
        throw(WeightsError("$source: $(error.msg)"))
    end
    missing_names = [name for (name, _) in shapes if !haskey(state, name)]
    unexpected = sort!(collect(String, setdiff(keys(state), first.(shapes))))
    if !isempty(missing_names) || !isempty(unexpected)
        throw(WeightsError(
            "$source: tensor names differ from those of $(to_json(config)): " *
            "missing $(truncated(missing_names)), left over $(truncated(unexpected))",
        ))
    end
    for (name, shape) in shapes
        check_tensor(name, state[name], shape, name == OPTIMIZER_STEP ? Int64 : T, source)
    end
end

function check_tensor(name, tensor, shape, T, source)
    refuse(rule, received) =
        throw(WeightsError("$source: $name must $rule. Received: $received"))
    size(tensor) == shape || refuse("have shape $shape", size(tensor))
    eltype(tensor) === T || refuse("be $T", eltype(tensor))
    position = findfirst(!isfinite, tensor)
    isnothing(position) ||
        refuse("be finite", "$(tensor[position]) at $(collect(Tuple(position)))")
    is_never_negative = endswith(name, ".running_var") || name == OPTIMIZER_STEP
    is_never_negative && minimum(tensor) < 0 && refuse("not be negative", minimum(tensor))
    return nothing
end

"The trained arrays, in the order of `parameter_shapes`."
function parameters(model::MobileNet)
    arrays = Array[]
    for unit in units(model)
        push!(arrays, unit.conv.weight, unit.norm.weight, unit.norm.bias)
    end
    return push!(arrays, model.classifier.weight, model.classifier.bias)
end

"`arrays`, in the order of `parameter_shapes`, with their canonical names."
with_names(config, arrays) = NamedArrays(Pair.(first.(parameter_shapes(config)), arrays))

"""
    get_state(model)
    get_state(model, optimizer)

The state, a vector of canonical name => array: all parameters and running statistics and, with an optimizer, its
slots and `optimizer.step`. The arrays are those of the model, not copies.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> size(Dict(get_state(model))["classifier.weight"])
(256, 10)
```
"""
function get_state(model::MobileNet)
    state = with_names(model.config, parameters(model))
    for unit in units(model)
        push!(state, "$(unit.name).norm.running_mean" => unit.norm.running_mean)
        push!(state, "$(unit.name).norm.running_var" => unit.norm.running_var)
    end
    return state
end

"""
    set_state!(model, state)
    set_state!(model, optimizer, state)

Copy a complete state, any iterable of name => array, into the model and the optimizer, and return the model. A state
with optimizer slots requires the optimizer they belong to; a state without slots leaves the optimizer unchanged.

Throws a `WeightsError` as [`MobileNets.check_state`](@ref) does, and a `ConfigError` for slots of another optimizer,
before anything is copied.

```jldoctest
julia> config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10);

julia> model, other = MobileNet(config), MobileNet(config; seed=1);

julia> get_state(set_state!(model, get_state(other))) == get_state(other)
true
```
"""
set_state!(model::MobileNet, state) = replace_state!(model, get_state(model), state, String[], "none")

"Copy `state` into the arrays `own`, those of the model and an optimizer named `optimizer` with the given slots."
function replace_state!(model, own, state, slots, optimizer)
    tensors = Dict{String,AbstractArray}(state)
    state_slots = slots_of(tensors)
    if !isempty(state_slots) && state_slots != slots
        throw(ConfigError(
            "the state has moments $(join(state_slots, ", ")), this model's optimizer is $optimizer"
        ))
    end
    check_state(model.config, tensors, eltype(model), state_slots)
    for (name, array) in own
        haskey(tensors, name) && copyto!(array, tensors[name])
    end
    return model
end

"A model with the values of a state, without optimizer slots."
function model_from_state(config, state; kernels=:fast)
    model = undefined_model(config, eltype(state["classifier.weight"]), kernels)
    return set_state!(model, filter(entry -> !startswith(first(entry), "optimizer."), state))
end
