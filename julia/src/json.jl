# JSON as the files need it: written byte for byte as Python's `json.dumps(..., separators=(",", ":"))`
# writes it, read by JSON.jl with names that appear twice refused.

"""
    json_text(value)

JSON without spaces, in ASCII: the same text as Python's `json.dumps`. Objects are vectors of pairs
and keep their order.

```jldoctest
julia> MobileNets.json_text(["rate" => 1e-5, "shape" => [3, 3], "ü" => true]) |> println
{"rate":1e-05,"shape":[3,3],"\\u00fc":true}
```
"""
json_text(::Nothing) = "null"
json_text(value::Bool) = string(value)
json_text(value::Integer) = string(value)
json_text(values::Union{AbstractVector,Tuple}) = string("[", join(map(json_text, values), ","), "]")
function json_text(entries::AbstractVector{<:Pair})
    return string("{", join((json_text(k) * ":" * json_text(v) for (k, v) in entries), ","), "}")
end

function json_text(text::AbstractString)
    isvalid(text) || throw(ArgumentError("text must be valid UTF-8. Received: $(repr(text))"))
    return string('"', join(map(escaped, collect(text))), '"')
end

const ESCAPES = Dict(
    '"' => "\\\"", '\\' => "\\\\", '\n' => "\\n", '\r' => "\\r", '\t' => "\\t", '\f' => "\\f",
    '\b' => "\\b",
)

"One character as Python's `ensure_ascii` writes it: a surrogate pair above U+FFFF."
function escaped(char::Char)
    haskey(ESCAPES, char) && return ESCAPES[char]
    ' ' <= char <= '~' && return string(char)
    return join("\\u" * string(unit; base=16, pad=4) for unit in transcode(UInt16, string(char)))
end

"Python's `repr`: the shortest digits that read back the same, an exponent below 1e-4 and from 1e16."
function json_text(value::Float64)
    isfinite(value) || throw(ArgumentError("JSON has no $value"))
    sign = signbit(value) ? "-" : ""
    mantissa, exponent = [split(string(abs(value)), 'e'); "0"]
    whole, fraction = split(mantissa, '.')
    digits = lstrip(whole * fraction, '0')
    point = length(whole) + parse(Int, exponent) - (length(whole * fraction) - length(digits))
    digits = rstrip(digits, '0')
    isempty(digits) && return sign * "0.0"
    -4 < point <= 16 || return sign * scientific(digits, point - 1)
    point <= 0 && return string(sign, "0.", "0"^-point, digits)
    padded = rpad(digits, point + 1, '0')
    return string(sign, padded[1:point], ".", padded[(point + 1):end])
end

function scientific(digits, exponent)
    fraction = length(digits) > 1 ? "." * digits[2:end] : ""
    return string(digits[1], fraction, exponent < 0 ? "e-" : "e+", lpad(abs(exponent), 2, '0'))
end

"A name that a JSON object cannot have, beside the parser's own errors."
struct NameRefused <: Exception
    msg::String
end

"A JSON object that refuses a second value for a name."
struct UniqueNames <: AbstractDict{String,Any}
    entries::Dict{String,Any}
end
UniqueNames() = UniqueNames(Dict{String,Any}())
Base.length(object::UniqueNames) = length(object.entries)
Base.iterate(object::UniqueNames, state...) = iterate(object.entries, state...)
Base.get(object::UniqueNames, name, default) = get(object.entries, name, default)
function Base.setindex!(object::UniqueNames, value, name)
    haskey(object.entries, name) && throw(NameRefused("the name $(repr(name)) appears twice"))
    istext = isvalid(name) && !(value isa AbstractString && !isvalid(value))
    istext || throw(NameRefused("half a surrogate pair in or at the name $(repr(name))"))
    object.entries[name] = value
    return object
end

"Parse a JSON object, or throw an `ArgumentError` that says why it is none."
function parse_object(text::AbstractString)
    isvalid(text) || throw(ArgumentError("not valid UTF-8"))
    value = try
        JSON.parse(text; dicttype=UniqueNames)
    catch error
        error isa InterruptException && rethrow()
        error isa NameRefused && throw(ArgumentError(error.msg))
        reason = first(split(sprint(showerror, error), '\n'))
        throw(ArgumentError("not JSON ($reason). Received: $(shown(text))"))
    end
    value isa UniqueNames || throw(ArgumentError("not a JSON object. Received: $(shown(value))"))
    return value.entries
end

"A value as JSON, for a message; a long one is cut."
shown(value) = first(JSON.json(value isa AbstractString ? first(value, 80) : value), 80)

"`values`, if it is an object of strings; `name` is what the file calls it."
function checked_texts(values, name)
    istexts = values isa AbstractDict && all(value -> value isa AbstractString, Base.values(values))
    rule = "$name must be an object of strings"
    istexts || throw(ArgumentError("$rule. Received: $(shown(values))"))
    return Dict{String,String}(values)
end
