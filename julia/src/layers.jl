# The layers hold plain `Array`s and say what is trained; what they compute is in kernels/.

"""
    CrossConv(weight, stride, padding, groups)

A convolution that does not flip its kernel, torch's cross-correlation, without bias. `weight` is
(kW, kH, I/groups, O): torch's bytes. Maps are (W, H, I, N). `padding` are the zeros (before, after) on
both axes: to the left and above, to the right and below.
"""
struct CrossConv{T}
    weight::Array{T,4}
    stride::Int
    padding::NTuple{2,Int}
    groups::Int
end
Flux.@layer CrossConv trainable = (weight,)

function Base.show(io::IO, conv::CrossConv)
    (; weight, stride, padding, groups) = conv
    return print(io, "CrossConv(", size(weight), ", ", stride, ", ", padding, ", ", groups, ")")
end

(conv::CrossConv)(x) = convolve(x, conv.weight, conv.stride, conv.padding, conv.groups)

"The kernel for a convolution of `x`, and what it takes besides `x` and `weight`."
function kernel_for(x, weight, stride, padding, groups)
    kernel, channels = size(weight, 1), size(x, 3)
    kernel == 1 && stride == 1 && padding == (0, 0) && groups == 1 && return pointwise, ()
    if groups == channels == size(weight, 4) && maximum(padding) < kernel
        return depthwise, (stride, padding)
    end
    return dense_conv, (stride, padding, groups)
end

function convolve(x, weight, geometry...)
    kernel, options = kernel_for(x, weight, geometry...)
    return kernel(x, weight, options...)
end

function ChainRulesCore.rrule(::typeof(convolve), x, weight, geometry...)
    kernel, options = kernel_for(x, weight, geometry...)
    y, pullback = rrule(kernel, x, weight, options...)
    return y, dy -> of_arrays(pullback(dy), length(geometry))
end

"The tangents of the function, the maps and the weight, and none for `count` options."
of_arrays(tangents, count) = (tangents[1:3]..., ntuple(Returns(NoTangent()), count)...)

"Any convolution, by NNlib."
function dense_conv(x, weight, stride, padding, groups)
    return NNlib.conv(x, weight, conv_dims(x, weight, stride, padding, groups))
end

function ChainRulesCore.rrule(::typeof(dense_conv), x, weight, stride, padding, groups)
    y, pullback = rrule(NNlib.conv, x, weight, conv_dims(x, weight, stride, padding, groups))
    return y, dy -> of_arrays(pullback(dy), 3)
end

function conv_dims(x, weight, stride, padding, groups)
    sides = (padding..., padding...)
    return NNlib.DenseConvDims(x, weight; stride, padding=sides, groups, flipkernel=true)
end

"""
    Norm(weight, bias, running_mean, running_var, eps, momentum)

Batch normalisation over (W, H, N) of maps (W, H, C, N). `eps` and `momentum` (the weight of the new
batch) stay `Float64` in every model, where Flux's are `Float32` that no conversion reaches.
"""
struct Norm{T}
    weight::Vector{T}
    bias::Vector{T}
    running_mean::Vector{T}
    running_var::Vector{T}
    eps::Float64
    momentum::Float64
end
Flux.@layer Norm trainable = (weight, bias)

Base.show(io::IO, norm::Norm) =
    print(io, "Norm(", length(norm.weight), " channels, ", norm.eps, ", ", norm.momentum, ")")

"""
    ConvNormAct(name, conv, norm, ceiling, residual=false)

The unit all blocks are made of. `ceiling` is 6 for ReLU6, `Inf` for ReLU and `nothing` for a linear
unit; `residual` says that the block's input is added to the unit's output; `name` is canonical.
"""
struct ConvNormAct{T}
    name::String
    conv::CrossConv{T}
    norm::Norm{T}
    ceiling::Union{Nothing,Float64}
    residual::Bool
end
ConvNormAct(name, conv, norm, ceiling) = ConvNormAct(name, conv, norm, ceiling, false)
Flux.@layer ConvNormAct trainable = (conv, norm)

"""
    Classifier(weight, bias)

`weight' * x .+ bias` for features (in, N); `weight` is (in, out): torch's bytes, where `Flux.Dense`
would need them transposed.
"""
struct Classifier{T}
    weight::Matrix{T}
    bias::Vector{T}
end
Flux.@layer Classifier
Base.show(io::IO, classifier::Classifier) = print(io, "Classifier", size(classifier.weight))
(classifier::Classifier)(x) = linear(x, classifier.weight, classifier.bias)

"What one run through a model is asked for; see `forward`."
struct Pass{T}
    train::Bool
    masks::Dict{String,Array{UInt8,4}}
    dropout::Union{Nothing,Matrix{T}}
    tap::Function
    tape::Union{Nothing,Vector{Any}}

    Pass{T}(train, masks, dropout, tap, tape=nothing) where {T} =
        new{T}(train, masks, dropout, tap, tape)
end

"""
`f(args...)`; where the pass has a tape, the pullback of this call goes onto it.

Everything a model computes goes through here, so that `backpropagate` can take it back.
"""
function apply(pass::Pass, f, args...)
    isnothing(pass.tape) && return f(args...)
    y, pullback = rrule(f, args...)
    push!(pass.tape, pullback)
    return y
end

"Hand `array` to the pass's tap under the name `<owner>.<part>`."
record(pass::Pass, owner, part, array) = (pass.tap("$owner.$part", array); nothing)
record(pass::Pass, name, array) = (pass.tap(name, array); nothing)
mask_of(pass::Pass, name) = get(pass.masks, "$name.act", nothing)
@non_differentiable record(::Any...)
@non_differentiable mask_of(::Any, ::Any)

function (unit::ConvNormAct)(x, pass::Pass)
    (; weight, stride, padding, groups) = unit.conv
    maps = apply(pass, convolve, x, weight, stride, padding, groups)
    record(pass, unit.name, "conv", maps)
    maps = normed(unit.norm, maps, pass, unit.name)
    record(pass, unit.name, "norm", maps)
    isnothing(unit.ceiling) && return maps
    maps = apply(pass, activate, maps, unit.ceiling, mask_of(pass, unit.name))
    record(pass, unit.name, "act", maps)
    return maps
end

"""
Maps after a block, a `NamedTuple` of units, one after the other, for its input `x`.

A recursion, because Zygote mistakes the gradient of `x` in a loop whose every round reads it, and
gives `foldl`'s `init` none.
"""
through(block, x, pass::Pass) = through(values(block), x, x, pass)
through(::Tuple{}, maps, x, pass) = maps
function through(units::Tuple, maps, x, pass)
    unit = first(units)
    return through(Base.tail(units), with_residual(unit, unit(maps, pass), x, pass), x, pass)
end

"The unit's `maps`, with the block's input `x` added where the unit says so."
function with_residual(unit, maps, x, pass)
    unit.residual || return maps
    total = apply(pass, add, maps, x)
    record(pass, block_name(unit), "add", total)
    return total
end

block_name(unit) = first(name_parts(unit.name))
@non_differentiable block_name(::Any)

function normed(norm::Norm, x, pass::Pass, name)
    pass.train || return apply(
        pass, norm_eval, x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps
    )
    maps, mean, var = apply(pass, norm_train, x, norm.weight, norm.bias, norm.eps)
    record(pass, name, "norm.batch_mean", mean)
    record(pass, name, "norm.batch_var", var)
    return maps
end
