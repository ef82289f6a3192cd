# JSON. Read by JSON.jl, with duplicate names and invalid text rejected. Written by this file, because JSON.jl
# does not write the bytes of Python's `json.dumps(..., separators=(",", ":"))` (escapes, number format).

"""
    json_text(value)

JSON without spaces, in ASCII: the text of Python's `json.dumps`. Objects are vectors of pairs and keep their
order. Throws an `ArgumentError` for a number that is not finite, and for text that is not valid UTF-8.

```jldoctest
julia> MobileNets.Configs.json_text(["rate" => 1e-5, "shape" => [3, 3], "ü" => true]) |> println
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
    return string('"', join(map(json_escape, collect(text))), '"')
end

const JSON_ESCAPES = Dict(
    '"' => "\\\"", '\\' => "\\\\", '\n' => "\\n", '\r' => "\\r", '\t' => "\\t", '\f' => "\\f",
    '\b' => "\\b",
)

"One character as Python's `ensure_ascii` writes it; a surrogate pair above U+FFFF."
function json_escape(char::Char)
    haskey(JSON_ESCAPES, char) && return JSON_ESCAPES[char]
    ' ' <= char <= '~' && return string(char)
    return join("\\u" * string(unit; base=16, pad=4) for unit in transcode(UInt16, string(char)))
end

"Python's `repr`: the shortest digits that round-trip, with an exponent below 1e-4 and from 1e16 on."
function json_text(value::Float64)
    isfinite(value) || throw(ArgumentError("JSON has no $value"))
    sign = signbit(value) ? "-" : ""
    mantissa, exponent = [split(string(abs(value)), 'e'); "0"]
    integer, fraction = split(mantissa, '.')
    digits = lstrip(integer * fraction, '0')
    point = length(integer) + parse(Int, exponent) - (length(integer * fraction) - length(digits))
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

"A duplicate or invalid name in a JSON object; the parser does not reject these itself."
struct JSONNameError <: Exception
    msg::String
end

"A JSON object that rejects a second value for a name."
struct UniqueNames <: AbstractDict{String,Any}
    entries::Dict{String,Any}
end
UniqueNames() = UniqueNames(Dict{String,Any}())
Base.length(object::UniqueNames) = length(object.entries)
Base.iterate(object::UniqueNames, state...) = iterate(object.entries, state...)
Base.get(object::UniqueNames, name, default) = get(object.entries, name, default)
function Base.setindex!(object::UniqueNames, value, name)
    haskey(object.entries, name) && throw(JSONNameError("the name $(repr(name)) appears twice"))
    is_text = isvalid(name) && !(value isa AbstractString && !isvalid(value))
    is_text || throw(JSONNameError("half a surrogate pair in or at the name $(repr(name))"))
    object.entries[name] = value
    return object
end

"Parse a JSON object, or throw an `ArgumentError` that states the reason."
function parse_object(text::AbstractString)
    isvalid(text) || throw(ArgumentError("not valid UTF-8"))
    value = try
        on_own_stack(() -> JSON.parse(text; dicttype=UniqueNames))
    catch error
        error isa InterruptException && rethrow()
        error isa JSONNameError && throw(ArgumentError(error.msg))
        reason = first(split(sprint(showerror, error), '\n'))
        throw(ArgumentError("not JSON ($reason). Received: $(json_excerpt(text))"))
    end
    value isa UniqueNames || throw(ArgumentError("not a JSON object. Received: $(json_excerpt(value))"))
    return value.entries
end

"A value as JSON of at most 80 characters, for error messages."
json_excerpt(value) = first(JSON.json(value isa AbstractString ? first(value, 80) : value), 80)

"`values` as a `Dict` of strings; throws an `ArgumentError` for any other value. `name` is its name in the file."
function checked_string_dict(values, name)
    is_string_dict = values isa AbstractDict && all(value -> value isa AbstractString, Base.values(values))
    rule = "$name must be an object of strings"
    is_string_dict || throw(ArgumentError("$rule. Received: $(json_excerpt(values))"))
    return Dict{String,String}(values)
end
