# Faults planted in a MobileNets.jl model or in its source; see faults.py and kernel_faults.py.
module Faults

using Base.CoreLogging: NullLogger, with_logger
using MobileNets: MobileNets
using MobileNets.Models: ConvNormAct

"Replace fields of the unit `role` of block `index` (from 0)."
function replace_unit(model, index, role; changes...)
    block = model.blocks[index + 1]
    unit = block[role]
    fields = (get(changes, name, getfield(unit, name)) for name in fieldnames(ConvNormAct))
    model.blocks[index + 1] = merge(block, NamedTuple{(role,)}((ConvNormAct(fields...),)))
    return model
end

missing_residual(model, index) = replace_unit(model, index, :project; residual=false)
activated_bottleneck(model, index) = replace_unit(model, index, :project; clip_value=6.0)
unclipped_unit(model, index, role) = replace_unit(model, index, Symbol(role); clip_value=Inf)

source(path) = read(joinpath(pkgdir(MobileNets), "src", path), String)

"""
Evaluate a source file of the submodule `name` again, with the text `right`, which must occur once, replaced by
`wrong`.
"""
function patch(name, path, right, wrong)
    count(right, source(path)) == 1 || error("$path must contain this text once: $right")
    return evaluate(name, path, replace(source(path), right => wrong))
end

"Evaluate a source file again as it is."
unpatch(name, path) = evaluate(name, path, source(path))

function evaluate(name, path, text)
    with_logger(NullLogger()) do # docstrings are replaced
        Base.include_string(getproperty(MobileNets, Symbol(name)), text, path)
    end
    return nothing
end

end
