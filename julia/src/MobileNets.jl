"""
MobileNet V1 and V2 for Flux, with files, outputs, gradients and training curves that agree with PyTorch's.

Arrays have torch's axes in reverse, which in column-major memory are the same bytes: images are `(W, H, C, N)`,
convolution weights `(kW, kH, I/groups, O)`, the classifier's weight `(in, out)`. Labels, image indices and block names
count from 0.

Construct a [`MobileNet`](@ref) from a [`MobileNetConfig`](@ref), or load one with [`MobileNets.load`](@ref);
[`predict`](@ref), [`loss_and_grads`](@ref), [`train_step!`](@ref) and [`fit!`](@ref) compute with it;
[`MobileNets.save`](@ref) writes a file.

Models are layers of Flux where Flux is loaded: `using MobileNets, Flux`. Predictions and training do not need it.
"""
module MobileNets

# Models
export MobileNet, MobileNetConfig, DeviceWorkspace, Workspace
export activations, loss_and_grads, predict
export get_state, set_state!
# Architecture
export activation_names, mult_adds, num_params, parameter_shapes, statistic_shapes
# Training
export TrainConfig, Processes
export averaged, fit!, join_processes, rate_at, setup_optimizer, train_step!
# Data
export BatchPlan, augment, batch_spec, crop_and_flip, normalise_images, read_cifar10, read_cifar100
# Configurations as text, errors
export from_json, to_json
export ConfigError, DataError, WeightsError

# Public names that are not exported, because other packages use them too: `MobileNets.load`, ...
const PUBLIC = (
    # Models
    :FrozenCall, :addresses, :array_at, :check_state, :cut, :flux_chain, :forward, :freeze, :from_flux_state,
    :load_flux!,
    # Architecture
    :from_multipliers, :layers, :rounded,
    # Training and data
    :any_rank, :scaling, :targets,
    # Files
    :ProbeCheck, :container, :infer_config, :load, :read_tensors, :read_weights, :save, :verify, :versions,
    :write_tensors, :write_weights,
    # Other frameworks
    :TorchModule,
    # Environment
    :blas_report,
)
# `public` is a keyword since Julia 1.11.
@static if VERSION >= v"1.11"
    eval(Expr(:public, PUBLIC...))
end

include("configs/Configs.jl")
include("philox/Philox.jl")
include("kernels/Kernels.jl")
include("models/Models.jl")
include("data/Data.jl")
include("training/Training.jl")
include("files/Files.jl")
include("tracing/Tracing.jl")
include("interop/Interop.jl")

using .Configs: ConfigError, DataError, MobileNetConfig, TrainConfig, WeightsError, activation_names, from_json,
    from_multipliers, layers, mult_adds, num_params, parameter_shapes, rounded, statistic_shapes, to_json
using .Kernels: Workspace, blas_report
using .Models: DeviceWorkspace, FrozenCall, MobileNet, activations, addresses, array_at, check_state, cut,
    flux_chain, forward, freeze, from_flux_state, get_state, load_flux!, loss_and_grads, predict, set_state!
using .Data: BatchPlan, augment, batch_spec, crop_and_flip, normalise_images, read_cifar10, read_cifar100, scaling,
    targets
using .Training: Processes, any_rank, averaged, fit!, join_processes, rate_at, setup_optimizer, train_step!
using .Interop: TorchModule
using .Files: ProbeCheck, container, infer_config, load, read_tensors, read_weights, save, verify, versions,
    write_tensors, write_weights

include("sysimage.jl")
include("flux_hint.jl")
include("c_calls.jl")
include("precompile.jl")

function __init__()
    check_sysimage()
    add_flux_hint()
    return nothing
end

end
