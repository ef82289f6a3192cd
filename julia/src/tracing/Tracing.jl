"""
What each layer of a model computes: `trace` wraps every leaf layer of a copy of the model, runs it and returns a
record for each layer, with inputs, output, weights and settings. `train_step` also computes gradients. Models of Flux
and of Lux have methods in the extensions that those packages load; custom layers are taken apart with Functors, down to
layers that Flux defines and to functions.
"""
module Tracing

using Optimisers: Optimisers

using ..Configs: ConfigError

include("records.jl")
include("steps.jl")
include("models.jl")
include("port.jl")
include("train.jl")
include("optimizers.jl")

end
