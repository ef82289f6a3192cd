"""
Training data: the CIFAR files, the plan of batches and augmentations, the augmentations themselves, and the scaling
of pixels. Everything is defined on whole numbers, with the same bits in Julia and in Python.
"""
module Data

using JSON: JSON

using ..Configs: ConfigError, DataError, WeightsError, checked_flag, checked_mixup, checked_number
using ..Philox: STREAM, bounded, permutation, philox_block, raw_words

include("batch_plan.jl")
include("augment.jl")
include("preprocessing.jl")
include("cifar.jl")

end
