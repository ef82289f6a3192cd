"""
MobileNets that share their files, outputs, gradients and training curves with PyTorch's.

Arrays have torch's axes in reverse, which in column-major memory are the same bytes: images are
`(W, H, C, N)`, convolution weights `(kW, kH, I/groups, O)`, the classifier's weight `(in, out)`.
Labels are the data set's own numbers and count from 0.

`build` a model from a `MobileNetConfig`, or `MobileNets.load` one; `predict`, `loss_and_grads`,
`train_step!` and `fit!` do what they say; `MobileNets.save` writes a file. `MobileNets.flux_chain` makes a
stock Flux model of one.
"""
module MobileNets

using Base.BinaryPlatforms: CPUID
using Base.Cartesian: @nexprs
using Base.Libc: Libdl
using ChainRulesCore: ChainRulesCore, NoTangent, @non_differentiable, @thunk, rrule, unthunk
using Flux: Flux, CUDADevice, DistributedUtils, MLDataDevices
using JSON: JSON
using LinearAlgebra: BLAS, norm
using Mmap: Mmap
using NNlib: NNlib
using Optimisers: Optimisers
using PrecompileTools: @compile_workload
using SHA: sha256
using Zlib_jll: libz

include("errors.jl")
include("sysimage.jl")
include("json.jl")
include("config.jl")
include("train_config.jl")
include("config_json.jl")
include("architecture.jl")
include("philox.jl")
include("normal.jl")
include("kernels/threads.jl")
include("kernels/team.jl")
include("kernels/workspace.jl")
include("kernels/layout.jl")
include("kernels/pointwise.jl")
include("kernels/dense.jl")
include("kernels/depthwise.jl")
include("kernels/activation.jl")
include("kernels/lanes.jl")
include("kernels/panels.jl")
include("kernels/tap_panels.jl")
include("kernels/norm.jl")
include("kernels/unit.jl")
include("kernels/head.jl")
include("kernels/reference.jl")
include("layers.jl")
include("model.jl")
include("state.jl")
include("initial.jl")
include("checks.jl")
include("inference.jl")
include("frozen.jl")
include("entry.jl")
include("optimizers.jl")
include("processes.jl")
include("train_step.jl")
include("safetensors.jl")
include("zip.jl")
include("npz.jl")
include("flux_state.jl")
include("flux_chain.jl")
include("device.jl")
include("flux_config.jl")
include("containers.jl")
include("bson.jl")
include("weights.jl")
include("probe.jl")
include("batch_plan.jl")
include("augment.jl")
include("preprocessing.jl")
include("cifar.jl")
include("schedules.jl")
include("training.jl")
include("precompile.jl")

export ConfigError, DataError, WeightsError
export MobileNetConfig, TrainConfig, from_json, from_multipliers, to_json
export activation_names, layers, mult_adds, num_params, parameter_shapes, rounded, statistic_shapes
export DeviceWorkspace, MobileNet, Workspace, activations, build, forward, loss_and_grads, predict
export check_state, get_state, set_state!
export Processes, averaged, fit!, join_processes, rate_at, setup, train_step!
export BatchPlan, augment, batch, crop_and_flip, normalise, read_cifar10, read_cifar100

end
