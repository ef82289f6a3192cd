# The gradient of a 1x1 convolution's weight: the sum over pixels of the outer products of inputs and output gradients.
# Both are read where they are; the sums of a block of inputs times outputs stay in registers for a tile of pixels.

"""
    add_outer_products!(sums, x, dy)

Add `x * dy'` to `sums` (I, O), for `x` (I, pixels) and `dy` (O, pixels). The products are summed over all pixels
before the sum is added.
"""
function add_outer_products!(sums::Matrix{T}, x::AbstractMatrix{T}, dy::AbstractMatrix{T}) where {T}
    fits = size(sums) == (size(x, 1), size(dy, 1)) && size(x, 2) == size(dy, 2) && stride(x, 1) == stride(dy, 1) == 1
    fits || throw(DimensionMismatch("products of $(size(x)) and $(size(dy)) into $(size(sums))"))
    V = lanes_for_channels(T, size(x, 1))
    if size(x, 1) % fieldcount(V) == 0
        add_blocks!(sums, x, dy, V)
    else # by name: `mul!` would bring its fallbacks for all matrix types, which take long to compile
        BLAS.gemm!('N', 'T', one(T), x, dy, one(T), sums)
    end
    return sums
end

function add_blocks!(sums, x, dy, ::Type{V}) where {V}
    panels, outputs = size(x, 1) ÷ fieldcount(V), size(dy, 1)
    large = block_pixels(V, BLOCK_PANELS)
    for pair in Iterators.partition(1:panels, BLOCK_PANELS)
        input, count = fieldcount(V) * (first(pair) - 1), length(pair) == BLOCK_PANELS ? Val(BLOCK_PANELS) : Val(1)
        output = 0
        while output < outputs
            remaining = outputs - output
            if remaining >= large
                add_block!(sums, x, dy, input, output, V, count, Val(block_pixels(V, BLOCK_PANELS)))
                output += large
            elseif remaining >= SMALL_BLOCK
                add_block!(sums, x, dy, input, output, V, count, Val(SMALL_BLOCK))
                output += SMALL_BLOCK
            else
                add_block!(sums, x, dy, input, output, V, count, Val(1))
                output += 1
            end
        end
    end
end

"`Q` vectors of inputs after the first `input` ones times `P` outputs after the first `output` ones."
@generated function add_block!(
    sums::Matrix{T}, x, dy, input, output, ::Type{V}, ::Val{Q}, ::Val{P}
) where {T,V<:Lanes{T},Q,P}
    return quote
        @nexprs $Q q -> @nexprs $P p -> sum_q_p = fill_lanes(zero(T), V)
        GC.@preserve sums x dy begin
            from, gradients = pointer(x) + input * sizeof(T), pointer(dy) + output * sizeof(T)
            for _ in axes(x, 2)
                @nexprs $Q q -> value_q = load_lanes(V, from + (q - 1) * sizeof(V))
                @nexprs $P p -> begin
                    gradient = fill_lanes(unsafe_load(gradients, p), V)
                    @nexprs $Q q -> sum_q_p = muladd_lanes(value_q, gradient, sum_q_p)
                end
                from += stride(x, 2) * sizeof(T)
                gradients += stride(dy, 2) * sizeof(T)
            end
            to = pointer(sums) + (output * size(sums, 1) + input) * sizeof(T)
            @nexprs $P p -> @nexprs $Q q -> begin
                address = to + (p - 1) * size(sums, 1) * sizeof(T) + (q - 1) * sizeof(V)
                unsafe_store!(Ptr{V}(address), add_lanes(load_lanes(V, address), sum_q_p))
            end
        end
        return nothing
    end
end
