"""
    ConfigError(msg)

A configuration value or an argument that breaks a rule.
"""
struct ConfigError <: Exception
    msg::String
end

"""
    DataError(msg)

Images or labels that are missing, truncated, foreign or out of range.
"""
struct DataError <: Exception
    msg::String
end

"""
    WeightsError(msg)

A weight file or a state that does not fit the architecture.
"""
struct WeightsError <: Exception
    msg::String
end

const MobileNetsError = Union{ConfigError,DataError,WeightsError}

Base.showerror(io::IO, error::MobileNetsError) = print(io, nameof(typeof(error)), ": ", error.msg)
