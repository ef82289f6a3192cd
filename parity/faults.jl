# Faults that only V2 can have, planted in a MobileNets.jl model; see faults.py.
module Faults

using MobileNets.Models: ConvNormAct

"Replace fields of the last unit of block `index` (from 0)."
function replace_project(model, index; changes...)
    block = model.blocks[index + 1]
    project = block.project
    fields = (get(changes, name, getfield(project, name)) for name in fieldnames(ConvNormAct))
    model.blocks[index + 1] = merge(block, (; project=ConvNormAct(fields...)))
    return model
end

missing_residual(model, index) = replace_project(model, index; residual=false)
activated_bottleneck(model, index) = replace_project(model, index; clip_value=6.0)

end
