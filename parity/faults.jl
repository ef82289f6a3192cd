# Faults planted in a MobileNets.jl model; see faults.py.
module Faults

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

end
