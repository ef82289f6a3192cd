"""
    activate(x, ceiling, mask)

`clamp(x, 0, ceiling)`: ReLU6 for a ceiling of 6, ReLU for `Inf`. The gradient is 0 at both kinks.

`mask` is `nothing`, or a `UInt8` array of the size of `x` that says on which piece each value is to
be treated as being, whatever side of a kink it fell: 0 gives 0, 1 the identity, 2 the ceiling.
"""
function activate(x::Array{T}, ceiling::Float64, ::Nothing) where {T}
    top = T(ceiling)
    y = similar(x)
    parallel(length(x)) do range
        @inbounds @simd ivdep for k in range
            y[k] = clamp(x[k], zero(T), top)
        end
    end
    return y
end

function activate(x::Array{T}, ceiling::Float64, mask::Array{UInt8}) where {T}
    top = T(ceiling)
    return map((value, piece) -> piece == 1 ? value : piece == 2 ? top : zero(T), x, mask)
end

function ChainRulesCore.rrule(::typeof(activate), x::Array{T}, ceiling::Float64, mask) where {T}
    y = activate(x, ceiling, mask)
    function activate_pullback(gradient)
        dx = activate_gradient(unthunk(gradient), y, T(ceiling), mask)
        return NoTangent(), dx, NoTangent(), NoTangent()
    end
    return y, activate_pullback
end

function activate_gradient(dy::Array{T}, y, top::T, ::Nothing) where {T}
    dx = similar(dy)
    parallel(length(dy)) do range
        @inbounds @simd ivdep for k in range
            dx[k] = ifelse((y[k] > 0) & (y[k] < top), dy[k], zero(T))
        end
    end
    return dx
end

function activate_gradient(dy::Array{T}, y, top::T, mask::Array{UInt8}) where {T}
    return map((slope, piece) -> piece == 1 ? slope : zero(T), dy, mask)
end
