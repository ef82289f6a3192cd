# Activations after a norm. `activate(activation, x, k)` is the value for `x`, the `k`th value of the maps;
# `passes_gradient(activation, x, k)` is whether the derivative there is 1; otherwise it is 0.

"""
`clamp(x, lower, upper)`: ReLU6 from 0 to 6, ReLU from 0 to `Inf`, a linear unit from `-Inf` to `Inf`, so that all
three share one form of each kernel. The derivative is 0 at both kinks.
"""
struct ClampActivation{T}
    lower::T
    upper::T
end
ClampActivation{T}(::Nothing) where {T} = ClampActivation{T}(-Inf, Inf)
ClampActivation{T}(clip_value) where {T} = ClampActivation{T}(0, clip_value)
@inline activate((; lower, upper)::ClampActivation, x, k) = clamp(x, lower, upper)
@inline passes_gradient((; lower, upper)::ClampActivation, x, k) = (x > lower) & (x < upper)

"""
An activation whose linear piece is prescribed for each value by `mask`, whatever the value: 0 gives the constant
0, 1 the identity, 2 the constant `clip_value`.
"""
struct MaskedActivation{T}
    clip_value::T
    mask::Array{UInt8,4}
end
@inline function activate((; clip_value, mask)::MaskedActivation, x, k)
    piece = @inbounds mask[k]
    return ifelse(piece == 1, x, ifelse(piece == 2, clip_value, zero(x)))
end
@inline passes_gradient((; mask)::MaskedActivation, x, k) = @inbounds mask[k] == 1

activation_for(clip_value, ::Nothing, ::Type{T}) where {T} = ClampActivation{T}(clip_value)
activation_for(clip_value, mask::Array{UInt8,4}, ::Type{T}) where {T} = MaskedActivation{T}(clip_value, mask)
