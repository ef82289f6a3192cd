# Files of BSON.jl, in which older code for Flux saves models: `BSON.@save "model.bson" model`, or the `Flux.state` of
# one. BSON.jl itself is not used, because it builds the types that a file names and evaluates code in it.
#
# Documents: https://bsonspec.org/spec.html. The representation of Julia values is in BSON.jl's src/extensions.jl: a
# document with a `tag` of array, struct, tuple, svec, symbol, datatype or backref. Layers are recognised by the name of
# their type.

const BSON_DEEPEST = 200

"The kinds of elements that BSON.jl writes."
const BSON_KINDS = (0x01, 0x02, 0x03, 0x04, 0x05, 0x08, 0x0a, 0x10, 0x12)

"Last part of the type's name => element type of arrays whose values are bytes in the file."
const BSON_TYPES = Dict(
    string(T) => T for T in (Float16, Float32, Float64, Int8, Int16, Int32, Int64, UInt8)
)

"""
Last part of the type's name => fields of Flux's layers by position (src/layers/{basic,conv,normalise}.jl). The
positions are the same since Flux 0.10; newer versions have appended fields.
"""
const BSON_LAYERS = Dict(
    "Conv" => (:σ, :weight, :bias, :stride, :pad),
    "DepthwiseConv" => (:σ, :weight, :bias, :stride, :pad),
    "BatchNorm" => (:λ, :β, :γ, :μ, :σ², :ϵ, :momentum),
    "Dense" => (:weight, :bias),
    "Dropout" => (:p,),
)

"The only value with layers in a file of BSON.jl, in the form of a `Flux.state`."
function read_container(::Val{:bson}, path)
    bytes = read(path)
    document = open(file -> bson_document(file, length(bytes), 0), path)
    shared = pop!(document, "_backrefs", Any[])
    require(shared isa Vector{Any}, "_backrefs must be an array. Received: $(typeof(shared))")
    context = BsonContext(shared, Dict{Int,Any}(), Ref(length(bytes)))
    values = Dict(name => bson_value(context, value, 0) for (name, value) in document)
    models = filter(name -> !isempty(flux_leaves(values[name]).convs), sort!(collect(keys(values))))
    names = isempty(values) ? "nothing" : join(sort!(collect(keys(values))), ", ")
    require(length(models) == 1, "it must have one model with Conv layers. Received: $names")
    return FluxState(values[only(models)]), Dict{String,String}()
end

"The document at the position of a file of `size` bytes: a `Dict` of name => value."
bson_document(file, size, depth) = Dict{String,Any}(bson_elements(file, size, depth))

"The name => value pairs of a document or array."
function bson_elements(file, size, depth)
    require(depth <= BSON_DEEPEST, "documents must be nested at most $BSON_DEEPEST deep. Received: more")
    start = position(file)
    length = bson_length(file, size - start, "a document's length", 5) # includes its own four bytes
    elements = Pair{String,Any}[]
    while (kind = read(file, UInt8)) != 0x00
        name = readuntil(file, '\0')
        require(isvalid(name), "a name must be UTF-8. Received: $(repr(name))")
        push!(elements, name => bson_element(file, size, kind, depth))
    end
    received = position(file) - start
    require(received == length, "a document must have $length bytes, as it says. Received: $received")
    return elements
end

function bson_element(file, size, kind, depth)
    kind == 0x01 && return ltoh(read(file, Float64))
    kind == 0x02 && return bson_string(file, size)
    kind == 0x03 && return bson_document(file, size, depth + 1)
    kind == 0x04 && return Any[last(pair) for pair in bson_elements(file, size, depth + 1)]
    kind == 0x05 && return bson_binary(file, size)
    kind == 0x08 && return read(file, UInt8) == 0x01
    kind == 0x0a && return nothing
    kind == 0x10 && return ltoh(read(file, Int32))
    kind == 0x12 && return ltoh(read(file, Int64))
    require(false, "a value's kind must be one that BSON.jl writes. Received: $(repr(kind))")
end

function bson_length(file, largest, name, least=0)
    length = ltoh(read(file, Int32))
    require(least <= length <= largest, "$name must be in [$least, $largest]. Received: $length")
    return Int(length)
end

function bson_string(file, size)
    length = bson_length(file, size - position(file) - 4, "a text's length", 1)
    text = String(read(file, length - 1))
    require(read(file, UInt8) == 0x00 && isvalid(text), "a text must be UTF-8 and end in a zero")
    return text
end

function bson_binary(file, size)
    length = bson_length(file, size - position(file) - 5, "the length of bytes")
    read(file, UInt8)
    return read(file, length)
end

"""
The state of the conversion of a file: the nodes that others refer to by number, the arrays already converted, and the
number of values that may still be converted. A file of n bytes has at most n values, so the limit ends circular
references.
"""
struct BsonContext
    shared::Vector{Any}
    converted::Dict{Int,Any}
    remaining::Base.RefValue{Int}
end

"A value in the form of a `Flux.state`, with `Vector{Any}` for tuples and a `NamedTuple` for each layer."
function bson_value(context, @nospecialize(node), depth)
    context.remaining[] -= 1
    is_endless = context.remaining[] < 0 || depth > BSON_DEEPEST
    require(!is_endless, "values must not refer to each other without end")
    node isa Vector{Any} && return Any[bson_value(context, each, depth + 1) for each in node]
    node isa Dict{String,Any} || return node
    tag = get(node, "tag", nothing)
    tag == "array" && return bson_array(context, node, depth)
    tag == "struct" && return bson_struct(context, node, depth)
    tag in ("tuple", "svec") && return bson_value(context, bson_field(node, "data"), depth + 1)
    tag == "backref" && return bson_shared(context, bson_field(node, "ref"), depth)
    tag in ("symbol", "datatype", "ref", "unionall") && return nothing
    require(isnothing(tag), "a tag must be one of BSON.jl's. Received: $(repr(tag))")
    return Any[bson_value(context, node[name], depth + 1) for name in sort!(collect(keys(node)))]
end

function bson_field(node, name)
    require(haskey(node, name), "a value with a tag must have $name. Received: " *
        "$(truncated(sort!(collect(keys(node)))))")
    return node[name]
end

function bson_shared(context, number, depth)
    count = length(context.shared)
    is_known = number isa Integer && 1 <= number <= count
    require(is_known, "a reference must be in [1, $count]. Received: $(repr(number))")
    haskey(context.converted, number) && return context.converted[number]
    value = bson_value(context, context.shared[number], depth + 1)
    value isa Array && (context.converted[number] = value)
    return value
end

function bson_array(context, node, depth)
    data, shape, type = bson_field(node, "data"), bson_field(node, "size"), bson_type(context, node)
    data isa Vector{UInt8} || return bson_value(context, data, depth + 1)
    name = last_name(type)
    T = get(BSON_TYPES, name, nothing)
    types = join(sort!(collect(keys(BSON_TYPES))), ", ")
    require(!isnothing(T), "an array's type must be one of $types. Received: $name")
    require(is_counts(shape), "an array's size must be whole numbers. Received: $(repr(shape))")
    values, count = length(data) / sizeof(T), checked_product(shape)
    require(values == count, "an array of size $(repr(shape)) must have as many values. Received: $values")
    return Array{T}(reshape(ltoh.(reinterpret(T, data)), Int.(shape)...))
end

"The document of a value's type, which may be a shared node."
function bson_type(context, node)
    type = bson_field(node, "type")
    is_shared = type isa Dict && get(type, "tag", nothing) == "backref"
    type = is_shared ? get(context.shared, something(get(type, "ref", nothing), 0), nothing) : type
    return type isa Dict{String,Any} ? type : Dict{String,Any}()
end

"The last part of a type's name; empty if it has none."
function last_name(type)
    names = get(type, "name", nothing)
    return names isa Vector && !isempty(names) ? string(last(names)) : ""
end

function bson_struct(context, node, depth)
    data, type = bson_field(node, "data"), bson_type(context, node)
    kind = last_name(type)
    data isa Vector{Any} || return bson_number(data, kind)
    fields = bson_value(context, data, depth + 1)
    kind == "NamedTuple" && return bson_named(type, fields)
    names = get(BSON_LAYERS, kind, ())
    count = min(length(names), length(fields))
    return count == 0 ? fields : NamedTuple{names[1:count]}(fields[1:count])
end

"A number stored as the bytes of its type; `nothing` for any other value."
function bson_number(data, kind)
    is_number = haskey(BSON_TYPES, kind) && length(data) == sizeof(BSON_TYPES[kind])
    return is_number ? ltoh(only(reinterpret(BSON_TYPES[kind], data))) : nothing
end

"A `NamedTuple`; the names are the symbols in the first parameter of its type."
function bson_named(type, fields)
    names = try
        Tuple(Symbol(name["name"]) for name in type["params"][1]["data"])
    catch error
        error isa Union{KeyError,BoundsError,MethodError} || rethrow()
        ()
    end
    is_named = length(names) == length(fields) && allunique(names)
    require(is_named, "a NamedTuple must have a name for each of its values. Received: $names")
    return NamedTuple{names}(fields)
end
