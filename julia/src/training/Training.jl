"""
Training: learning rate schedules, optimizers, training steps of one or several processes, and the training loop.
"""
module Training


using ..Configs: ConfigError, DataError, TrainConfig, feature_channels, parameter_shapes
using ..Data: BatchPlan, PREPROCESSING, augment, batch_spec, normalise_images, targets
using ..Kernels: Workspace, parallel, sum_array
using ..Models: DROPOUT, MobileNet, Models, OPTIMIZER_STEP, backpropagate, checked_classes,
    checked_images, checked_labels, checked_masks, get_state, parameters, replace_state!, slots_of, units,
    update_running_statistics!, with_names
using ..Philox: STREAM, raw_words, uniform64

include("schedules.jl")
include("optimizers.jl")
include("processes.jl")
include("train_step.jl")
include("fit.jl")

end
