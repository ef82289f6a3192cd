"""
Configurations and the architecture they describe: errors, JSON text, [`MobileNetConfig`](@ref),
[`TrainConfig`](@ref), the table of layers, and parameter and multiply-add counts. Depends on no other
submodule.
"""
module Configs

using JSON: JSON

include("errors.jl")
include("own_stack.jl")
include("json.jl")
include("checked_values.jl")
include("model_config.jl")
include("train_config.jl")
include("config_json.jl")
include("architecture.jl")

end
