# The layers hold arrays and declare which are trained; the computation is in Kernels.

"""
    CrossConv(weight, stride, padding, groups)

A convolution without bias that does not flip its kernel, torch's cross-correlation. `weight` is
(kW, kH, I/groups, O), torch's bytes. `padding` is the number of zeros (before, after) on both axes: left and above,
right and below.
"""
struct CrossConv{T}
    weight::Array{T,4}
    stride::Int
    padding::NTuple{2,Int}
    groups::Int
end
Optimisers.trainable(conv::CrossConv) = (; conv.weight)

function Base.show(io::IO, conv::CrossConv)
    (; weight, stride, padding, groups) = conv
    return print(io, "CrossConv(", size(weight), ", ", stride, ", ", padding, ", ", groups, ")")
end

"""
    Norm(weight, bias, running_mean, running_var, eps, momentum)

Batch normalisation over (W, H, N); all arrays are (C,). `eps` and `momentum`, the weight of the new batch in the
running statistics, are `Float64` in every model; those of `Flux.BatchNorm` are `Float32` constants that
`Flux.f64` does not convert.
"""
struct Norm{T}
    weight::Vector{T}
    bias::Vector{T}
    running_mean::Vector{T}
    running_var::Vector{T}
    eps::Float64
    momentum::Float64
end
Optimisers.trainable(norm::Norm) = (; norm.weight, norm.bias)

Base.show(io::IO, norm::Norm) =
    print(io, "Norm(", length(norm.weight), " channels, ", norm.eps, ", ", norm.momentum, ")")

"""
    ConvNormAct(name, conv, norm, clip_value, residual=false)

A unit of a MobileNet: convolution, norm and activation. `clip_value` is 6 for ReLU6, `Inf` for ReLU and `nothing`
for a linear unit. If `residual`, the input of the block is added to the output of the unit. `name` is canonical.
"""
struct ConvNormAct{T}
    name::String
    conv::CrossConv{T}
    norm::Norm{T}
    clip_value::Union{Nothing,Float64}
    residual::Bool
end
ConvNormAct(name, conv, norm, clip_value) = ConvNormAct(name, conv, norm, clip_value, false)
Optimisers.trainable(unit::ConvNormAct) = (; unit.conv, unit.norm)

"""
    Classifier(weight, bias)

`weight' * x .+ bias` for features `x` (in, N). `weight` is (in, out), torch's bytes; that of `Flux.Dense` is
(out, in).
"""
struct Classifier{T}
    weight::Matrix{T}
    bias::Vector{T}
end
Base.show(io::IO, classifier::Classifier) = print(io, "Classifier", size(classifier.weight))

(classifier::Classifier)(x) = linear(x, classifier.weight, classifier.bias, AllocatingWorkspace())

"""
The options of a forward pass and what it records, see `forward`. `masks` are in the layout of the kernels. With a
`tape`, the pullback of each call is pushed onto it. `statistics` are the batch's mean and biased variance of each
unit.
"""
Base.@kwdef struct ForwardPass{T}
    train::Bool
    kernels::Union{FastKernels,ReferenceKernels} = FastKernels(AllocatingWorkspace())
    masks::Dict{String,Array{UInt8,4}} = Dict{String,Array{UInt8,4}}()
    dropout::Union{Nothing,Matrix{T}} = nothing
    hook::Union{Nothing,Function} = nothing
    tape::Union{Nothing,Vector{Any}} = nothing
    statistics::Vector{NTuple{2,Vector{Float64}}} = NTuple{2,Vector{Float64}}[]

    ForwardPass{T}(
        train::Bool, kernels::Union{FastKernels,ReferenceKernels}, masks::Dict{String,Array{UInt8,4}},
        dropout::Union{Nothing,Matrix{T}}, hook::Union{Nothing,Function}, tape::Union{Nothing,Vector{Any}},
        statistics::Vector{NTuple{2,Vector{Float64}}},
    ) where {T} = new{T}(train, kernels, masks, dropout, hook, tape, statistics)
end

"""
Call `f(args...)`; if the pass has a tape, push the pullback of the call onto it.

All differentiable operations of a model are called through this function, so that `backpropagate` can reverse
them.
"""
function taped_call(pass::ForwardPass, f, args...)
    isnothing(pass.tape) && return f(args...)
    y, pullback = rrule(f, args...)
    push!(pass.tape, pullback)
    return y
end

"Call the hook of the pass, if there is one, with the activation that `compute()` returns."
call_hook(compute, pass::ForwardPass, name) = (isnothing(pass.hook) || pass.hook(name, compute()); nothing)
call_maps_hook(pass::ForwardPass, name, maps) =
    call_hook(() -> maps_to_images(pass.kernels, maps), pass, name)
@non_differentiable call_hook(::Any...)
@non_differentiable call_maps_hook(::Any...)

"Release maps that are not read again: with a tape the pullbacks read them; `block_input` is read by a residual unit."
function release_maps!(pass::ForwardPass, maps, block_input=nothing)
    isnothing(pass.tape) && maps !== block_input && release!(workspace_of(pass.kernels), maps)
    return nothing
end
@non_differentiable release_maps!(::Any...)

function (unit::ConvNormAct)(x, pass::ForwardPass)
    (; conv, norm) = unit
    y, maps, mean, var = taped_call(
        pass, conv_norm_act, pass.kernels, x, conv.weight, norm.weight, norm.bias,
        unit_options(unit, pass),
    )
    record_unit!(pass, unit, y, maps, mean, var)
    return y
end

function unit_options(unit, pass)
    (; conv, norm, clip_value) = unit
    statistics = pass.train ? nothing : (norm.running_mean, norm.running_var)
    mask = get(pass.masks, "$(unit.name).act", nothing)
    keep_conv = !isnothing(pass.hook)
    return UnitOptions(
        conv.stride, conv.padding, conv.groups, norm.eps, clip_value, statistics, mask, keep_conv
    )
end
@non_differentiable unit_options(::Any, ::Any)

function record_unit!(pass, (; name, norm, clip_value), y, conv, mean, var)
    pass.train && push!(pass.statistics, (mean, var))
    isnothing(pass.hook) && return nothing
    call_maps_hook(pass, "$name.conv", conv)
    if pass.train
        pass.hook("$name.norm.batch_mean", mean)
        pass.hook("$name.norm.batch_var", var)
    end
    maps = norm_maps(pass.kernels, conv, norm.weight, norm.bias, mean, var, norm.eps)
    call_maps_hook(pass, "$name.norm", maps)
    isnothing(clip_value) || call_maps_hook(pass, "$name.act", y)
    return nothing
end
@non_differentiable record_unit!(::Any...)

"""
The maps after a block, a `NamedTuple` of units, for its input `x`.

A recursion, because Zygote's gradient of `x` is wrong in a loop in which every iteration reads `x`, and missing for
the `init` of `foldl`.
"""
apply_block(block, x, pass::ForwardPass) = apply_units(values(block), x, x, pass)
apply_units(::Tuple{}, maps, x, pass) = (release_maps!(pass, x, maps); maps)
function apply_units(units::Tuple, maps, x, pass)
    unit = first(units)
    y = add_residual(unit, unit(maps, pass), x, pass)
    release_maps!(pass, maps, x)
    return apply_units(Base.tail(units), y, x, pass)
end

"The maps of a unit, plus the input `x` of the block if the unit is residual."
function add_residual(unit, maps, x, pass)
    unit.residual || return maps
    total = taped_call(pass, residual_add, pass.kernels, maps, x)
    call_maps_hook(pass, "$(block_name(unit)).add", total)
    release_maps!(pass, maps)
    return total
end

block_name(unit) = first(block_and_role(unit.name))
@non_differentiable block_name(::Any)
