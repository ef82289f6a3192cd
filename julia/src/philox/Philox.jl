"""
The random numbers of this package: words of Philox4x64-10, and uniform, bounded, permuted and normal values
made of them. The same bits on every machine, in Julia and in Python.
"""
module Philox

using ..Configs: ConfigError

include("philox.jl")
include("normal.jl")

end
