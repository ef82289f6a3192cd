# Checks of single values, with one form of error message.

"`value` as a `T` in [low, high]; throws a `ConfigError` that states `rule` for any other value."
function checked_number(::Type{T}, name, value, low, high, rule) where {T}
    is_number = value isa Real && !(value isa Bool)
    if !is_number || !isfinite(value) || !(low <= value <= high)
        throw(ConfigError("$name must be $rule. Received: $(repr(value))"))
    end
    if T <: Integer && !isinteger(value)
        throw(ConfigError("$name must be a whole number, $rule. Received: $(repr(value))"))
    end
    return T(value) + zero(T) # -0.0 becomes 0.0, in JSON too
end

"The string of `value`, a symbol or string, if it is one of `choices`; otherwise throws a `ConfigError`."
function checked_choice(name, value, choices)
    value isa Union{Symbol,AbstractString} && string(value) in choices && return string(value)
    throw(ConfigError("$name must be one of $(join(choices, ", ")). Received: $(repr(value))"))
end

function checked_flag(name, value)
    value isa Bool && return value
    throw(ConfigError("$name must be true or false. Received: $(repr(value))"))
end
