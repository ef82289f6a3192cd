# Configs to and from JSON, the form that weight files contain.

"""
    to_json(config)

The config as JSON with sorted keys and no spaces, the same bytes as Python's: equal configs give equal text.
The defaults of `depth_mult` and `head_conv` are left out, so that versions without these fields read the text.
"""
function to_json(config::Union{MobileNetConfig,TrainConfig})
    names = sort!(collect(fieldnames(typeof(config))))
    config isa MobileNetConfig && filter!(name -> !is_later_default(config, name), names)
    return json_text([string(name) => getfield(config, name) for name in names])
end

is_later_default(config, name) =
    (name === :depth_mult && config.depth_mult == 1) || (name === :head_conv && !config.head_conv)

"""
    from_json(MobileNetConfig, text)
    from_json(TrainConfig, text)

The config in a JSON object. Absent fields have their default. Throws a `ConfigError` for text that is not a
JSON object, for an unknown field, and for a value outside its range.

```jldoctest
julia> from_json(MobileNetConfig, "{\\"width_mult\\":0.5}") == MobileNetConfig(width_mult=0.5)
true
```
"""
function from_json(::Type{T}, text::AbstractString) where {T<:Union{MobileNetConfig,TrainConfig}}
    values = try
        parse_object(text)
    catch error
        error isa ArgumentError || rethrow()
        throw(ConfigError("$(nameof(T)): $(error.msg)"))
    end
    known = sort!(collect(string.(fieldnames(T))))
    unknown = sort!(collect(setdiff(keys(values), known)))
    if !isempty(unknown)
        throw(ConfigError(
            "$(nameof(T)) has no field $(repr(unknown[1])); its fields are $(join(known, ", "))"
        ))
    end
    defaults = default_config(T, values)
    return T((get(values, string(name), getfield(defaults, name)) for name in fieldnames(T))...)
end

"The config whose fields replace those absent from `values`."
default_config(::Type{TrainConfig}, values) = TrainConfig()
default_config(::Type{MobileNetConfig}, values) =
    MobileNetConfig(; family=get(values, "family", "v1"))
