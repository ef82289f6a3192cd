# What follows a norm. `activated(activation, x, k)` is its value for `x`, the `k`th of the maps;
# `passes(activation, x, k)` says whether its gradient there is 1 or 0.

"None: a linear unit."
struct Linear end
@inline activated(::Linear, x, k) = x
@inline passes(::Linear, x, k) = true

"`clamp(x, 0, ceiling)`: ReLU6 for a ceiling of 6, ReLU for `Inf`. The gradient is 0 at both kinks."
struct Clamped{T}
    ceiling::T
end
@inline activated((; ceiling)::Clamped, x, k) = clamp(x, zero(x), ceiling)
@inline passes((; ceiling)::Clamped, x, k) = (x > 0) & (x < ceiling)

"""
`pieces` says on which piece each value is to be treated as being, whatever side of a kink it fell: 0
gives 0, 1 the identity, 2 the ceiling.
"""
struct Frozen{T}
    ceiling::T
    pieces::Array{UInt8,4}
end
@inline function activated((; ceiling, pieces)::Frozen, x, k)
    piece = @inbounds pieces[k]
    return ifelse(piece == 1, x, ifelse(piece == 2, ceiling, zero(x)))
end
@inline passes((; pieces)::Frozen, x, k) = @inbounds pieces[k] == 1

activation_of(::Nothing, mask, ::Type) = Linear()
activation_of(ceiling::Float64, ::Nothing, ::Type{T}) where {T} = Clamped{T}(ceiling)
activation_of(ceiling::Float64, mask::Array{UInt8,4}, ::Type{T}) where {T} =
    Frozen{T}(ceiling, mask)
