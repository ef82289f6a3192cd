"""
Modules of torch as Flux layers (torch_module.jl), and precompilation of the calls that Python makes through PythonCall.

PythonCall does not precompile its conversions, which take each process two seconds before its first prediction. The
names are those of PythonCall 0.9.34; with another version in which a name or signature differs, a call is compiled
when it is made, as without this file.
"""
module MobileNetsPythonCallExt

using MobileNets
using MobileNets: FrozenCall, addresses, array_at, freeze, versions
using MobileNets.Models: FrozenModel, NamedArrays
using MobileNets.Training: Optimizer
using PrecompileTools: @compile_workload
using PythonCall: PythonCall, Py, pyconvert

include("torch_module.jl")

"The functions and types that Python calls, and the containers that it indexes."
const CALLED = (
    activations, from_json, get_state, loss_and_grads, predict, set_state!, setup_optimizer, train_step!,
    freeze, MobileNet, FrozenCall, addresses, array_at, versions, unsafe_wrap,
    Ptr{Float32}, Ptr{Float64}, Ptr{Int64}, Ptr{UInt8}, Dict{String,Array},
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
        FrozenModel{Float32}, FrozenModel{Float64}, FrozenCall{Float32}, FrozenCall{Float64}, Tuple{Int,Int}, Workspace,
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
The calls of `_pyconvert_get_rules` and `pyconvert_get_rules` on rules whose type inference does not know, half of what
the first conversion in a process compiles. The names of their closures are not stable, so their types are read from the
code.
"""
function precompile_rules(Convert)
    rules = Vector{Convert.PyConvertRule}
    sees_rules(closure) = fieldnames(closure) == (:rules,)
    for closure in filter(sees_rules, closures(Convert._pyconvert_get_rules))
        by = NamedTuple{(:by, :rev),Tuple{closure,Bool}}
        precompile(Core.kwcall, (by, typeof(sort), Base.OneTo{Int}))
    end
    precompile(getindex, (rules, Vector{Int}))
    closure_types = closures(Convert.pyconvert_get_rules)
    for closure in closure_types
        precompile(collect, (Iterators.Flatten{Base.Generator{rules,closure}},))
        precompile(collect, (Base.Generator{Iterators.Filter{closure,rules},typeof(identity)},))
        for condition in filter(sees_rules, closure_types)
            filtered = Iterators.Filter{condition,Iterators.Enumerate{rules}}
            precompile(collect, (Base.Generator{filtered,closure},))
        end
    end
end

"The types of the closures in the only method of `f`."
function closures(f)
    types = DataType[]
    for statement in only(code_lowered(f)).code
        value = Meta.isexpr(statement, :(=)) ? statement.args[2] : statement
        Meta.isexpr(value, :new) && value.args[1] isa GlobalRef || continue
        type = getglobal(value.args[1].mod, value.args[1].name)
        type isa DataType && type <: Function && push!(types, type)
    end
    return types
end

@compile_workload begin
    try
        precompile_calls(PythonCall.JlWrap, PythonCall.Convert)
        precompile_results(PythonCall.JlWrap, PythonCall.C, PythonCall.Core)
        precompile_rules(PythonCall.Convert)
    catch error # another version of PythonCall: the calls are compiled when they are made
        @debug "not all calls from Python are precompiled" exception = error
    end
end

end
