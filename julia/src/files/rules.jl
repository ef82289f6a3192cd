# Checks shared by the readers: a broken rule is an `ArgumentError`, to which `read_file` adds the name of the file.

"Throw an `ArgumentError` with `message` unless `condition` is true."
require(condition, message) = condition || throw(ArgumentError(message))

"The rule that the error of a reader states; any other error is rethrown."
broken_rule(error::ArgumentError) = error.msg
broken_rule(::EOFError) = "it ends early"
broken_rule(::Any) = rethrow()

"The limit of NumPy on the axes of an array; Julia compiles code for each number of axes."
const MAX_AXES = 64

"The product of `counts` from left to right, or `nothing` if it exceeds the largest `Int`."
function checked_product(counts)
    product = 1
    for count in counts
        product, overflows = Base.Checked.mul_with_overflow(product, Int(count))
        overflows && return nothing
    end
    return product
end

is_counts(values) = values isa AbstractVector && all(is_count, values)
is_count(value) = value isa Integer && !(value isa Bool) && 0 <= value <= typemax(Int)

"Read an array of `T` from its bytes in a file."
read_array(file, type, shape) = read!(file, Array{type}(undef, shape))

"Bools are read as bytes: any byte but 0 is true; as the bytes of a Julia Bool, others than 0 and 1 are undefined."
read_array(file, ::Type{Bool}, shape) = Array(read_array(file, UInt8, shape) .!= 0)
