"""
What each layer of a Flux model computes: `trace` wraps every leaf layer of a copy of the model, runs it and returns a
record for each layer, with inputs, output, weights and settings. `train_step` also computes gradients. Custom layers
work, too: they are taken apart with Functors, down to layers that Flux defines and to functions.
"""
module Tracing

using Flux: Flux
using NNlib: NNlib
using Optimisers: Optimisers

using ..Configs: ConfigError
using ..Philox: Philox

include("records.jl")
include("describe.jl")
include("wrap.jl")
include("port.jl")
include("train.jl")
include("optimizers.jl")

end
