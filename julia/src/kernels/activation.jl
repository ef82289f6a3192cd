# What follows a norm. `activated(activation, x, k)` is its value for `x`, the `k`th of the maps;
# `passes(activation, x, k)` says whether its gradient there is 1 or 0.

"""
`clamp(x, floor, ceiling)`: ReLU6 from 0 to 6, ReLU from 0 to `Inf`, and a linear unit from `-Inf` to `Inf`,
which spares each kernel a form of its own. The gradient is 0 at both kinks.
"""
struct Clamped{T}
    floor::T
    ceiling::T
end
Clamped{T}(::Nothing) where {T} = Clamped{T}(-Inf, Inf)
Clamped{T}(ceiling) where {T} = Clamped{T}(0, ceiling)
@inline activated((; floor, ceiling)::Clamped, x, k) = clamp(x, floor, ceiling)
@inline passes((; floor, ceiling)::Clamped, x, k) = (x > floor) & (x < ceiling)

"""
`pieces` says on which piece each value is to be treated as being, whatever side of a kink it fell: 0
gives 0, 1 the identity, 2 the ceiling.
"""
struct Pieces{T}
    ceiling::T
    pieces::Array{UInt8,4}
end
@inline function activated((; ceiling, pieces)::Pieces, x, k)
    piece = @inbounds pieces[k]
    return ifelse(piece == 1, x, ifelse(piece == 2, ceiling, zero(x)))
end
@inline passes((; pieces)::Pieces, x, k) = @inbounds pieces[k] == 1

activation_of(ceiling, ::Nothing, ::Type{T}) where {T} = Clamped{T}(ceiling)
activation_of(ceiling, mask::Array{UInt8,4}, ::Type{T}) where {T} = Pieces{T}(ceiling, mask)
