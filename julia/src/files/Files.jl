"""
File formats: the safetensors exchange file, NumPy's npz, and reading of BSON and JLD2 files of Flux models; saving,
loading and verifying models; and the config that the weights of a file require.

Readers treat a file as data: they allocate no more than its size justifies, and build no type that it names.
"""
module Files

using LinearAlgebra: norm
using Mmap: Mmap
using SHA: SHA, sha256
using Zlib_jll: libz

using ..Configs: ConfigError, FAMILY_DEFAULTS, MobileNetConfig, ROUNDINGS, TRUNKS, WeightsError,
    checked_string_dict, from_json, json_excerpt, json_text, layers, on_own_stack, parse_object, to_json,
    truncated, with_fields
using ..Models: MobileNet, check_state, eval_logits, flux_leaves, from_flux_state, get_state, model_from_state,
    slots_of, state_shapes
using ..Philox: STREAM, raw_words, uniform64

include("rules.jl")
include("atomic_write.jl")
include("safetensors.jl")
include("zip.jl")
include("npz.jl")
include("containers.jl")
include("bson.jl")
include("infer_config.jl")
include("flux_config.jl")
include("weights.jl")
include("probe.jl")

end
