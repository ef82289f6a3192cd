"""
MobileNets as Flux models: layers, forward pass, initial weights, state, predictions, gradients, frozen models,
conversion to and from stock Flux layers, models cut in two, and computation on a GPU.
"""
module Models

using ChainRulesCore: ChainRulesCore, @non_differentiable, NoTangent, Tangent, ZeroTangent, rrule, unthunk
using Functors: Functors
using Optimisers: Optimisers

using ..Configs: Configs, ConfigError, DataError, Layer, MobileNetConfig, WeightsError, activation_names,
    block_and_role, checked_choice, feature_channels, last_map_size, layer_groups, layers, output_size,
    parameter_shapes, statistic_shapes, to_json, truncated, weight_shape, with_fields
using ..Kernels: AllocatingWorkspace, ClampActivation, FastKernels, PooledWorkspace, ReferenceKernels,
    UnitOptions, Workspace, WorkspacePool, allocate, apply_dropout, conv_kind, conv_norm_act, convolve_frozen!,
    cross_entropy, global_mean, image_range, images_to_maps, linear, maps_to_images, norm_maps, output_dims,
    pack_weight, release!, residual_add, run_on_team, softmax, to_channels_last, with_team, with_workspace, workspace_of
using ..Kernels: Kernels
using ..Philox: STREAM, normal64, uniform64, word_blocks

include("layers.jl")
include("model.jl")
include("statistics.jl")
include("state.jl")
include("initial.jl")
include("checks.jl")
include("inference.jl")
include("frozen.jl")
include("frozen_call.jl")
include("flux_state.jl")
include("part.jl")
include("flux.jl")

end
