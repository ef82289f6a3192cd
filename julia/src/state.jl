# A model's state: canonical names paired with arrays, checked before anything is copied. It holds
# every parameter and running statistic and, where an optimizer is at work, its moments as
# `optimizer.<slot>.<parameter>` and the number of its steps as `optimizer.step` (Int64, no axes).

const OPTIMIZER_STEP = "optimizer.step"

const NamedArrays = Vector{Pair{String,Array}}

"Canonical name => size of all parameters and running statistics."
state_shapes(config) = [parameter_shapes(config); statistic_shapes(config)]

"Name => size of what an optimizer that keeps `slots` adds to the state; none adds nothing."
function optimizer_shapes(config, slots)
    isempty(slots) && return Shapes()
    moments = Shapes([
        "optimizer.$slot.$name" => shape for slot in slots for
        (name, shape) in parameter_shapes(config)
    ])
    return push!(moments, OPTIMIZER_STEP => ())
end

"The optimizer slots named in a state, sorted."
function slots_of(tensors)
    parts = [split(name, '.') for name in keys(tensors) if startswith(name, "optimizer.")]
    return sort!(unique(String(part[2]) for part in parts if length(part) > 2))
end

"""
    check_state(config, tensors, T, slots=String[]; source="state")

Refuse a state that is not exactly the one `config` and `slots` call for, in arrays of `T`.

Throws a `WeightsError` that names each missing and each left-over tensor; failing that, the first
tensor whose size or type is wrong, that is not finite, or that is a variance below zero; or the layer
that `config` leaves without channels.
"""
function check_state(
    config::MobileNetConfig, tensors::AbstractDict, T::Type, slots=String[]; source="state"
)
    shapes = try
        [state_shapes(config); optimizer_shapes(config, slots)]
    catch error # a width that only the layer it leaves nothing of can tell
        error isa ConfigError || rethrow()
        throw(WeightsError("$source: $(error.msg)"))
    end
    missed = [name for (name, _) in shapes if !haskey(tensors, name)]
    extra = sort!(collect(String, setdiff(keys(tensors), first.(shapes))))
    if !isempty(missed) || !isempty(extra)
        throw(WeightsError(
            "$source: tensor names differ from those of $(to_json(config)): " *
            "missing $(some(missed)), left over $(some(extra))",
        ))
    end
    for (name, shape) in shapes
        check_tensor(name, tensors[name], shape, name == OPTIMIZER_STEP ? Int64 : T, source)
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
    never_negative = endswith(name, ".running_var") || name == OPTIMIZER_STEP
    never_negative && minimum(tensor) < 0 && refuse("not be negative", minimum(tensor))
    return nothing
end

"The first few names, and how many more there are."
function some(names, most=5)
    isempty(names) && return "none"
    more = length(names) > most ? " and $(length(names) - most) more" : ""
    return join(first(names, most), ", ") * more
end

"The arrays of what is trained, in the order of `parameter_shapes`."
function parameters(model::MobileNet)
    arrays = Array[]
    for unit in units(model)
        push!(arrays, unit.conv.weight, unit.norm.weight, unit.norm.bias)
    end
    return push!(arrays, model.classifier.weight, model.classifier.bias)
end

"`arrays`, in the order of `parameter_shapes`, by their canonical names."
named(config, arrays) = NamedArrays(Pair.(first.(parameter_shapes(config)), arrays))

"""
    get_state(model)
    get_state(model, optimizer)

Canonical name => array of all parameters and running statistics and, with an optimizer, its moments
and `optimizer.step`: the model's own arrays, not copies.
"""
function get_state(model::MobileNet)
    state = named(model.config, parameters(model))
    for unit in units(model)
        push!(state, "$(unit.name).norm.running_mean" => unit.norm.running_mean)
        push!(state, "$(unit.name).norm.running_var" => unit.norm.running_var)
    end
    return state
end

"""
    set_state!(model, state)
    set_state!(model, optimizer, state)

Copy a whole state (anything that yields name => array) into the model and the optimizer, after
[`check_state`](@ref) found nothing wrong. A state with moments needs the optimizer they belong to; one
without leaves them alone.
"""
set_state!(model::MobileNet, state) = replace_state!(model, get_state(model), state, String[], "none")

function replace_state!(model, own, state, slots, optimizer)
    tensors = Dict{String,AbstractArray}(state)
    found = slots_of(tensors)
    if !isempty(found) && found != slots
        throw(ConfigError(
            "the state has moments $(join(found, ", ")), this model's optimizer is $optimizer"
        ))
    end
    check_state(model.config, tensors, eltype(model), found)
    for (name, array) in own
        haskey(tensors, name) && copyto!(array, tensors[name])
    end
    return model
end
