# BSON.jl's files, in which older code of Flux's users has models: `BSON.@save "model.bson" model`, or
# `Flux.state` of one. Read without BSON.jl, which builds the types that a file names and runs code that it
# holds; here a file is data, and a layer is known by its type's name.
#
# Documents: https://bsonspec.org/spec.html. What BSON.jl makes of Julia's values is in its
# src/extensions.jl: a document with a `tag` of array, struct, tuple, svec, symbol, datatype or backref.

const BSON_DEEPEST = 200

"Element types of arrays whose values are bytes in the file, by the last part of their name."
const BSON_TYPES = Dict(
    string(T) => T for T in (Float16, Float32, Float64, Int8, Int16, Int32, Int64, UInt8)
)

"""
The fields of Flux's layers by position, by the last part of the type's name. They have stood there since
Flux 0.10; newer versions appended others. (Flux's src/layers/{basic,conv,normalise}.jl)
"""
const BSON_LAYERS = Dict(
    "Conv" => (:σ, :weight, :bias, :stride, :pad),
    "DepthwiseConv" => (:σ, :weight, :bias, :stride, :pad),
    "BatchNorm" => (:λ, :β, :γ, :μ, :σ², :ϵ, :momentum),
    "Dense" => (:weight, :bias),
    "Dropout" => (:p,),
)

"The one value in a file of BSON.jl's in which there are layers, as `Flux.state` would have it."
function read_container(::Val{:bson}, path)
    bytes = read(path)
    document = open(file -> bson_document(file, length(bytes), 0), path)
    shared = pop!(document, "_backrefs", Any[])
    require(shared isa Vector{Any}, "_backrefs must be an array. Received: $(typeof(shared))")
    raised = BsonValues(shared, Dict{Int,Any}(), Ref(length(bytes)))
    values = Dict(name => bson_value(raised, value, 0) for (name, value) in document)
    models = filter(name -> !isempty(flux_leaves(values[name]).convs), sort!(collect(keys(values))))
    names = isempty(values) ? "nothing" : join(sort!(collect(keys(values))), ", ")
    require(length(models) == 1, "it must have one model with Conv layers. Received: $names")
    return FluxState(values[only(models)]), Dict{String,String}()
end

"What stands in a file of `size` bytes from its position on: `Dict` of name => value."
bson_document(file, size, depth) = Dict{String,Any}(bson_elements(file, size, depth))

"The pairs of name and value of a document or array."
function bson_elements(file, size, depth)
    require(depth <= BSON_DEEPEST, "documents must be nested at most $BSON_DEEPEST deep. Received: more")
    start = position(file)
    length = bson_length(file, size - start, "a document's length", 5) # with its own four bytes
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

function bson_length(file, most, what, least=0)
    found = ltoh(read(file, Int32))
    require(least <= found <= most, "$what must be in [$least, $most]. Received: $found")
    return Int(found)
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
What values are made of: those that others refer to by their number, the ones already made, and how many
more may be made: a file of n bytes has no more than n, however often its values refer to each other.
"""
struct BsonValues
    shared::Vector{Any}
    made::Dict{Int,Any}
    left::Base.RefValue{Int}
end

"A value as `Flux.state` would have it, with `Vector{Any}` for tuples, and a `NamedTuple` for each layer."
function bson_value(values, @nospecialize(node), depth)
    values.left[] -= 1
    isendless = values.left[] < 0 || depth > BSON_DEEPEST
    require(!isendless, "values must not refer to each other without end")
    node isa Vector{Any} && return Any[bson_value(values, each, depth + 1) for each in node]
    node isa Dict{String,Any} || return node
    tag = get(node, "tag", nothing)
    tag == "array" && return bson_array(values, node, depth)
    tag == "struct" && return bson_struct(values, node, depth)
    tag in ("tuple", "svec") && return bson_value(values, bson_field(node, "data"), depth + 1)
    tag == "backref" && return bson_shared(values, bson_field(node, "ref"), depth)
    tag in ("symbol", "datatype", "ref", "unionall") && return nothing
    require(isnothing(tag), "a tag must be one of BSON.jl's. Received: $(repr(tag))")
    return Any[bson_value(values, node[name], depth + 1) for name in sort!(collect(keys(node)))]
end

function bson_field(node, name)
    require(haskey(node, name), "a value with a tag must have $name. Received: $(some(sort!(collect(keys(node)))))")
    return node[name]
end

function bson_shared(values, number, depth)
    count = length(values.shared)
    isknown = number isa Integer && 1 <= number <= count
    require(isknown, "a reference must be in [1, $count]. Received: $(repr(number))")
    haskey(values.made, number) && return values.made[number]
    value = bson_value(values, values.shared[number], depth + 1)
    value isa Array && (values.made[number] = value)
    return value
end

function bson_array(values, node, depth)
    data, shape, type = bson_field(node, "data"), bson_field(node, "size"), bson_type(values, node)
    data isa Vector{UInt8} || return bson_value(values, data, depth + 1)
    name = last_name(type)
    T = get(BSON_TYPES, name, nothing)
    require(!isnothing(T), "an array's type must be one of $(join(sort!(collect(keys(BSON_TYPES))), ", ")). Received: $name")
    require(iscounts(shape), "an array's size must be whole numbers. Received: $(repr(shape))")
    wanted, count = length(data) / sizeof(T), checked_product(shape)
    require(wanted == count, "an array of size $(repr(shape)) must have as many values. Received: $wanted")
    return Array{T}(reshape(ltoh.(reinterpret(T, data)), Int.(shape)...))
end

"The document that says a value's type, which may stand among the shared ones."
function bson_type(values, node)
    type = bson_field(node, "type")
    isshared = type isa Dict && get(type, "tag", nothing) == "backref"
    type = isshared ? get(values.shared, something(get(type, "ref", nothing), 0), nothing) : type
    return type isa Dict{String,Any} ? type : Dict{String,Any}()
end

"The last part of a type's name, or an empty one."
function last_name(type)
    names = get(type, "name", nothing)
    return names isa Vector && !isempty(names) ? string(last(names)) : ""
end

function bson_struct(values, node, depth)
    data, type = bson_field(node, "data"), bson_type(values, node)
    kind = last_name(type)
    data isa Vector{Any} || return bson_number(data, kind)
    fields = bson_value(values, data, depth + 1)
    kind == "NamedTuple" && return bson_named(type, fields)
    names = get(BSON_LAYERS, kind, ())
    count = min(length(names), length(fields))
    return count == 0 ? fields : NamedTuple{names[1:count]}(fields[1:count])
end

"A number kept as the bytes of its type; `nothing` for what is none."
function bson_number(data, kind)
    isnumber = haskey(BSON_TYPES, kind) && length(data) == sizeof(BSON_TYPES[kind])
    return isnumber ? ltoh(only(reinterpret(BSON_TYPES[kind], data))) : nothing
end

"A `NamedTuple`, whose type has the names, as symbols, in its first parameter."
function bson_named(type, fields)
    found = try
        Tuple(Symbol(name["name"]) for name in type["params"][1]["data"])
    catch error
        error isa Union{KeyError,BoundsError,MethodError} || rethrow()
        ()
    end
    isnamed = length(found) == length(fields) && allunique(found)
    require(isnamed, "a NamedTuple must have a name for each of its values. Received: $found")
    return NamedTuple{found}(fields)
end
