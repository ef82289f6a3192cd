"""
What needs Flux: models as chains of its layers, computation by them on a GPU, records of what its layers compute, its
layers inside another framework, training with several processes, and NNlib's convolutions for the reference kernels.
"""
module MobileNetsFluxExt

using ChainRulesCore: rrule
using Flux: CUDADevice, DistributedUtils, Flux, Functors, MLDataDevices, NNlib, Zygote
using MobileNets: Interop, Kernels, Models, Tracing, Training
using MobileNets.Configs: ConfigError, layer_groups, output_size, truncated, with_fields
using MobileNets.Interop: OF_INPUTS, OF_PARAMETERS, TorchModule, gradient_at, like
using MobileNets.Kernels: apply_dropout, cross_entropy, softmax
using MobileNets.Models: DROPOUT, DeviceWorkspace, MobileNet, NORM_FIELDS, Part, check_trainable, checked_images,
    checked_labels, checked_masks, dense_weight, flip_kernel, flux_chain, get_state, load_flux!, model_from_state,
    paired_leaves, required_array
using MobileNets.Philox: Philox
using MobileNets.Tracing: PARAM_FIELDS, Recorder, Step, Tape, arrays, convert_weights, copy_with, gradients_of, has_statistics,
    join_path, layer_at, move_weights!, one_hot, padding_pairs, path_of, setting, steps, training_copy,
    with_activation, with_decimal_eps, without_dropout, wrap, zeros_for
using MobileNets.Training: Processes

include("layers.jl")
include("flux_chain.jl")
include("device.jl")
include("processes.jl")
include("interop.jl")
include("tracing/describe.jl")
include("tracing/wrap.jl")
include("tracing/port.jl")
include("tracing/train.jl")

function __init__()
    Kernels.NNLIB[] = NNlib
    add_functions!()
    return nothing
end

end
