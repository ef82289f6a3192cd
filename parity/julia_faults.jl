# Faults in the source of MobileNets.jl: a method is defined anew with one small change, and then as it was.
module SourceFaults

using MobileNets: MobileNets

const CONSTANT, TERM, OFF_BY_ONE, DTYPE = "constant changed", "term dropped", "off by one", "dtype lowered"

struct Fault
    operator::String
    words::String
    space::Module
    original::Expr
    changed::Expr
end

"What is changed: a module, a file, and the functions in it, whose indices do not depend on what is changed."
const PLACES = (
    (MobileNets.Kernels, "kernels/norm.jl", (
        :mean_and_var, :affine, :center, :scale_and_shift, :normalise, :norm_gradients!,
    )),
    (MobileNets.Kernels, "kernels/activation.jl", (:activate, :passes_gradient)),
    (MobileNets.Kernels, "kernels/loss.jl", (:cross_entropy, :target, :rrule)),
    (MobileNets.Kernels, "kernels/head.jl", (:global_mean, :residual_add, :linear)),
    (MobileNets.Models, "models/statistics.jl", (:update_running_statistics!, :update_running!)),
)
const OPTIMIZER_PLACES = (
    (MobileNets.Training, "training/optimizers.jl", (
        :update!, :decay_factors, :clip_factor, :update_average!, :initial_slots,
    )),
)

faults(places) = Fault[
    Fault(operator, "$name$(rule_of(definition)): $words", space, definition, changed) for (space, file, names) in places
    for name in names for definition in definitions(joinpath(pkgdir(MobileNets), "src", file), name)
    for (operator, words, changed) in changes(definition)
]

model_faults() = faults(PLACES)
optimizer_faults() = faults(OPTIMIZER_PLACES)

plant(fault) = (Core.eval(fault.space, fault.changed); nothing)
restore(fault) = (Core.eval(fault.space, fault.original); nothing)

"The definitions of a function in a file, without docstrings."
function definitions(path, name)
    found = Expr[]
    collect_definitions!(found, Meta.parseall(read(path, String); filename=path), name)
    return found
end

collect_definitions!(found, _, name) = nothing
function collect_definitions!(found, code::Expr, name)
    is_definition = code.head in (:function, :(=)) && callee(code.args[1]) == name
    is_definition && return push!(found, code)
    foreach(part -> collect_definitions!(found, part, name), code.args)
end

"The type of the first argument, if that is a rule of an optimizer."
function rule_of(definition)
    found = match(r"rule::(\w+)|::(Torch\w+|TensorFlow\w+)", string(definition.args[1]))
    return found === nothing ? "" : " " * something(found.captures...)
end

callee(_) = nothing
callee(name::Symbol) = nothing
function callee(code::Expr)
    code.head in (:where, :(::)) && return callee(first(code.args))
    code.head == :call || return nothing
    function_name = first(code.args)
    function_name isa Expr && function_name.head == :. && return function_name.args[2].value
    return function_name
end

"(operator, words, definition with the change) for each change of the body."
function changes(definition)
    found = Tuple{String,String,Expr}[]
    body = definition.args[2]
    visit(body) do operator, node, replacement, place
        changed = Expr(definition.head, definition.args[1], replaced(body, place, replacement))
        push!(found, (operator, "$(shown(node)) -> $(shown(replacement))", changed))
    end
    return found
end

shown(code) = replace(string(code isa Expr ? Base.remove_linenums!(deepcopy(code)) : code), r"\s+" => ' ')

"The code with another node at a place, a list of indices."
replaced(_, ::Tuple{}, replacement) = replacement
function replaced(code, place, replacement)
    args = copy(code.args)
    args[first(place)] = replaced(args[first(place)], Base.tail(place), replacement)
    return Expr(code.head, args...)
end

"Call `f(operator, node, replacement, place)` for each change; indices, types and conditions stay as they are."
function visit(f, code, place=())
    code isa AbstractFloat && return f(CONSTANT, code, code == 0 ? 1.0 : 2code, place)
    code isa Int && return f(OFF_BY_ONE, code, code + 1, place)
    code === :Float64 && return f(DTYPE, code, :Float32, place)
    code isa Expr || return nothing
    code.head in (:ref, :curly, :(::)) && return nothing
    if code.head == :call && length(code.args) == 3
        operation, left, right = code.args
        operation == :(:) && return nothing
        if operation in (:+, :*)
            f(TERM, code, left, place)
            f(TERM, code, right, place)
        elseif operation in (:-, :/, :^)
            f(TERM, code, left, place)
        elseif operation in (:<, :>)
            changed = Expr(:call, operation == :< ? :(<=) : :(>=), left, right)
            f(OFF_BY_ONE, code, changed, place)
        end
    elseif code.head == :call && first(code.args) == :muladd
        _, a, b, c = code.args
        f(TERM, code, :($a * $b), place)
        f(TERM, code, c, place)
    elseif code.head == :call && first(code.args) in (:allocate, :parallel, :sizehint!, :fill, :zeros)
        return nothing
    elseif code.head == :for
        visit(f, code.args[2], (place..., 2))
        return nothing
    end
    for (index, part) in enumerate(code.args)
        is_name = index == 1 && code.head in (:call, :(=), :kw)
        is_name || visit(f, part, (place..., index))
    end
end

end
