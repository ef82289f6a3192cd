"""
Layers of Flux inside another framework: their arrays by name, which are the memory of the other framework's
parameters; what they compute, and their pullbacks. And modules of torch inside Flux.
"""
module Interop

using Functors: Functors
using Optimisers: Optimisers

using ..Configs: ConfigError
using ..Models: Models, Part
using ..Tracing: convert_weights

include("arrays.jl")
include("calls.jl")
include("torch_module.jl")

end
