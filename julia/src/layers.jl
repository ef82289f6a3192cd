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

"What one run through a model is asked for; see `forward`. Masks are in the kernels' layout."
Base.@kwdef struct Pass{T}
    train::Bool
    kernels::Union{Fast,Reference} = Fast(Fresh())
    masks::Dict{String,Array{UInt8,4}} = Dict{String,Array{UInt8,4}}()
    dropout::Union{Nothing,Matrix{T}} = nothing
    tap::Union{Nothing,Function} = nothing
    tape::Union{Nothing,Vector{Any}} = nothing
    statistics::Vector{NTuple{2,Vector{Float64}}} = NTuple{2,Vector{Float64}}[]

    Pass{T}(fields...) where {T} = new{T}(fields...)
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

"Hand what `make()` gives to the pass's tap, if there is one."
record(make, pass::Pass, name) = (isnothing(pass.tap) || pass.tap(name, make()); nothing)
record_maps(pass::Pass, name, maps) = record(() -> maps_to_images(pass.kernels, maps), pass, name)
@non_differentiable record(::Any...)
@non_differentiable record_maps(::Any...)

"Let go of maps that nothing will read: no pullback, and not the end of the block they began."
function discard(pass::Pass, maps, kept=nothing)
    isnothing(pass.tape) && maps !== kept && release!(room_of(pass.kernels), maps)
    return nothing
end
@non_differentiable discard(::Any...)

function (unit::ConvNormAct)(x, pass::Pass)
    (; conv, norm) = unit
    y, maps, mean, var = apply(
        pass, conv_norm_act, pass.kernels, x, conv.weight, norm.weight, norm.bias,
        unit_options(unit, pass),
    )
    record_unit(pass, unit, y, maps, mean, var)
    return y
end

function unit_options(unit, pass)
    (; conv, norm, ceiling) = unit
    statistics = pass.train ? nothing : (norm.running_mean, norm.running_var)
    mask = get(pass.masks, "$(unit.name).act", nothing)
    keep = !isnothing(pass.tap)
    return UnitOptions(
        conv.stride, conv.padding, conv.groups, norm.eps, ceiling, statistics, mask, keep
    )
end
@non_differentiable unit_options(::Any, ::Any)

function record_unit(pass, (; name, norm, ceiling), y, conv, mean, var)
    pass.train && push!(pass.statistics, (mean, var))
    isnothing(pass.tap) && return nothing
    record_maps(pass, "$name.conv", conv)
    if pass.train
        pass.tap("$name.norm.batch_mean", mean)
        pass.tap("$name.norm.batch_var", var)
    end
    maps = norm_maps(pass.kernels, conv, norm.weight, norm.bias, mean, var, norm.eps)
    record_maps(pass, "$name.norm", maps)
    isnothing(ceiling) || record_maps(pass, "$name.act", y)
    return nothing
end
@non_differentiable record_unit(::Any...)

"""
Maps after a block, a `NamedTuple` of units, one after the other, for its input `x`.

A recursion, because Zygote mistakes the gradient of `x` in a loop whose every round reads it, and
gives `foldl`'s `init` none.
"""
through(block, x, pass::Pass) = through(values(block), x, x, pass)
through(::Tuple{}, maps, x, pass) = (discard(pass, x, maps); maps)
function through(units::Tuple, maps, x, pass)
    unit = first(units)
    y = with_residual(unit, unit(maps, pass), x, pass)
    discard(pass, maps, x)
    return through(Base.tail(units), y, x, pass)
end

"The unit's `maps`, with the block's input `x` added where the unit says so."
function with_residual(unit, maps, x, pass)
    unit.residual || return maps
    total = apply(pass, add, pass.kernels, maps, x)
    record_maps(pass, "$(block_name(unit)).add", total)
    discard(pass, maps)
    return total
end

block_name(unit) = first(name_parts(unit.name))
@non_differentiable block_name(::Any)
