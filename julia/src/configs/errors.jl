"""
    ConfigError(msg)

An invalid configuration value or argument. `msg` states the rule and the value received.
"""
struct ConfigError <: Exception
    msg::String
end

"""
    DataError(msg)

Images or labels that are missing, truncated, of the wrong type or size, or out of range. `msg` states the
rule and the value received.
"""
struct DataError <: Exception
    msg::String
end

"""
    WeightsError(msg)

A weight file that breaks its format, or a state that does not match the architecture. `msg` names the file
or tensor, the rule and the value received.
"""
struct WeightsError <: Exception
    msg::String
end

const MobileNetsError = Union{ConfigError,DataError,WeightsError}

Base.showerror(io::IO, error::MobileNetsError) = print(io, nameof(typeof(error)), ": ", error.msg)

"The first `limit` names of a list, and the number of the others; for error messages."
function truncated(names, limit=5)
    isempty(names) && return "none"
    remaining = length(names) > limit ? " and $(length(names) - limit) more" : ""
    return join(first(names, limit), ", ") * remaining
end
