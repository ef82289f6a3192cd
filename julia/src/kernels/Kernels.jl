"""
The numerical kernels: convolutions with their norms and activations, pooling, classifier and loss, each with
its gradient; the threads they run on and the workspaces they take arrays from. The fast kernels use maps
(C, W, H, N), the reference kernels (W, H, C, N).
"""
module Kernels

using Base.BinaryPlatforms: CPUID
using Base.Cartesian: @nexprs
using Base.Libc: Libdl
using ChainRulesCore: ChainRulesCore, NoTangent, @non_differentiable, @thunk, unthunk
using LinearAlgebra: BLAS

using ..Configs: ConfigError, output_size

include("threads.jl")
include("team.jl")
include("workspace.jl")
include("layout.jl")
include("activation.jl")
include("lanes.jl")
include("pointwise.jl")
include("dense.jl")
include("depthwise.jl")
include("packed_panels.jl")
include("outer_products.jl")
include("packed_taps.jl")
include("frozen_conv.jl")
include("norm.jl")
include("unit.jl")
include("head.jl")
include("loss.jl")
include("reference.jl")

end
