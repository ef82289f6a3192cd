# Configs to and from JSON, the form that files hold.

"""
    to_json(config)

JSON with sorted keys and no spaces, the same bytes as Python's: equal configs give equal text.
"""
function to_json(config::Union{MobileNetConfig,TrainConfig})
    names = sort!(collect(fieldnames(typeof(config))))
    return json_text([string(name) => getfield(config, name) for name in names])
end

"""
    from_json(MobileNetConfig, text)
    from_json(TrainConfig, text)

The config in a JSON object; absent fields take their default. Throws a `ConfigError` for text that
is no JSON object, an unknown field, or a value outside its range.
"""
function from_json(kind::Type{<:Union{MobileNetConfig,TrainConfig}}, text::AbstractString)
    values = try
        parse_object(text)
    catch error
        error isa ArgumentError || rethrow()
        throw(ConfigError("$(nameof(kind)): $(error.msg)"))
    end
    known = sort!(collect(string.(fieldnames(kind))))
    unknown = sort!(collect(setdiff(keys(values), known)))
    if !isempty(unknown)
        throw(ConfigError(
            "$(nameof(kind)) has no field $(repr(unknown[1])); its fields are $(join(known, ", "))"
        ))
    end
    defaults = default_config(kind, values)
    fields = fieldnames(kind)
    return kind((get(values, string(name), getfield(defaults, name)) for name in fields)...)
end

"The config that fields absent from `values` are taken from."
default_config(::Type{TrainConfig}, values) = TrainConfig()
default_config(::Type{MobileNetConfig}, values) =
    MobileNetConfig(; family=get(values, "family", "v1"))
