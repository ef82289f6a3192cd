"""
What Python asks of MobileNets through PythonCall, compiled ahead. Nothing is defined here.

PythonCall precompiles none of its conversions, and each process would spend two seconds on them before
its first prediction. The names are those of PythonCall 0.9.34; where another version has none of that
name, or another signature, the call is compiled when it is made, as it would be without this file.
"""
module MobileNetsPythonCallExt

using MobileNets
using MobileNets: Entry, Frozen, MobileNet, NamedArrays, Optimizer, Workspace, addresses, freeze, versions
using PrecompileTools: @compile_workload
using PythonCall: PythonCall, Py, pyconvert

"The functions, types and containers that Python calls, and those that it indexes."
const CALLED = (
    activations, build, from_json, get_state, loss_and_grads, predict, set_state!, setup, train_step!,
    freeze, Entry, addresses, versions, unsafe_wrap, Ptr{Float32}, Ptr{Float64}, Ptr{Int64}, Ptr{UInt8},
    Dict{String,Array},
)
const ARRAYS = [Array{T,N} for T in (Float32, Float64) for N in (1, 2, 4)]
const CONVERTED = (
    Any, String, Symbol, Bool, Int, Integer, Float64, Vector{Any}, Dict{Symbol,Any}, Array, Tuple,
)

function precompile_calls(JlWrap, Convert)
    for called in CALLED
        precompile(JlWrap.pyjlany_call, (Core.Typeof(called), Py, Py))
    end
    precompile(JlWrap.pyjlany_call, (Type{Workspace}, Py, Py))
    precompile(JlWrap.pyjlany_getattr, (Module, Py))
    precompile(JlWrap.pyjltype_getitem, (Type, Py))
    precompile(JlWrap.pyjldict_setitem, (Dict{String,Array}, Py, Py))
    for type in CONVERTED
        precompile(pyconvert, (Type{type}, Py))
        precompile(Convert.pyconvert_result, (Type{Any}, type))
    end
    precompile(Convert.pyconvert_get_rules, (Type, Py))
    for (type, rule) in (
        (Vector{Any}, Convert.pyconvert_rule_iterable),
        (NamedTuple, Convert.pyconvert_rule_iterable),
        (Tuple, Convert.pyconvert_rule_iterable),
        (Dict{Symbol,Any}, Convert.pyconvert_rule_mapping),
        (String, Convert.pyconvert_rule_str),
        (Bool, Convert.pyconvert_rule_bool),
        (Integer, Convert.pyconvert_rule_int),
        (Float64, Convert.pyconvert_rule_float),
        (Any, JlWrap.pyconvert_rule_jlvalue),
        (Array, JlWrap.pyconvert_rule_jlvalue),
    )
        precompile(Convert.pyconvert_fix(type, rule), (Py,))
    end
end

function precompile_results(JlWrap, C, Core)
    results = (Module, Type, Function, Nothing, Float64, MobileNet{Float32}, MobileNet{Float64},
        Frozen{Float32}, Frozen{Float64}, Entry{Float32}, Entry{Float64}, Tuple{Int,Int}, Workspace,
        MobileNetConfig, TrainConfig, Optimizer, NamedArrays, Dict{String,Array},
        Tuple{Float64,NamedArrays}, Pair{String,Array}, JlWrap.Iterator)
    for type in (results..., ARRAYS...)
        precompile(Py, (type,))
    end
    precompile(JlWrap.pyjlany_op(JlWrap.Iterator), (NamedArrays,))
    precompile(JlWrap.pyjliter_next, (JlWrap.Iterator,))
    foreach(type -> precompile(Core.pytuple_setitem, (Py, Int, type)), (String, Int))
    buffer = (C.PyPtr, Ptr{C.Py_buffer}, Cint)
    precompile(JlWrap.Cjl._pyjl_get_buffer, buffer)
    precompile(JlWrap.Cjl._pyjl_release_buffer, buffer[1:2])
    info = typeof(JlWrap.pyjlarray_buffer_info)
    for type in ARRAYS
        precompile(Core.pytuple_setitem, (Py, Int, type))
        precompile(JlWrap.Cjl._pyjl_get_buffer_impl, (buffer..., type, info))
        precompile(PythonCall.Convert.pyconvert_tryconvert, (Type{Array}, type))
    end
    for type in (Float32, Float64, Int64, UInt8), N in 1:4
        precompile(unsafe_wrap, (Type{Array}, Ptr{type}, NTuple{N,Int}))
    end
end

"""
What `_pyconvert_get_rules` and `pyconvert_get_rules` call on rules, of which inference does not know the
type; it is half of what the first conversion in a process would compile. Their closures have no names
that could be relied on, but stand in their code.
"""
function precompile_rules(Convert)
    rules = Vector{Convert.PyConvertRule}
    sees_rules(closure) = fieldnames(closure) == (:rules,)
    for closure in filter(sees_rules, closures(Convert._pyconvert_get_rules))
        by = NamedTuple{(:by, :rev),Tuple{closure,Bool}}
        precompile(Core.kwcall, (by, typeof(sort), Base.OneTo{Int}))
    end
    precompile(getindex, (rules, Vector{Int}))
    made = closures(Convert.pyconvert_get_rules)
    for closure in made
        precompile(collect, (Iterators.Flatten{Base.Generator{rules,closure}},))
        precompile(collect, (Base.Generator{Iterators.Filter{closure,rules},typeof(identity)},))
        for condition in filter(sees_rules, made)
            chosen = Iterators.Filter{condition,Iterators.Enumerate{rules}}
            precompile(collect, (Base.Generator{chosen,closure},))
        end
    end
end

"The types of the closures that the only method of `f` makes."
function closures(f)
    found = DataType[]
    for statement in only(code_lowered(f)).code
        value = Meta.isexpr(statement, :(=)) ? statement.args[2] : statement
        Meta.isexpr(value, :new) && value.args[1] isa GlobalRef || continue
        type = getglobal(value.args[1].mod, value.args[1].name)
        type isa DataType && type <: Function && push!(found, type)
    end
    return found
end

@compile_workload begin
    try
        precompile_calls(PythonCall.JlWrap, PythonCall.Convert)
        precompile_results(PythonCall.JlWrap, PythonCall.C, PythonCall.Core)
        precompile_rules(PythonCall.Convert)
    catch error # another version of PythonCall's: all works, later
        @debug "not all of the border is compiled ahead" exception = error
    end
end

end
