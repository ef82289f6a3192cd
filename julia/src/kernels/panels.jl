# A frozen model's products of matrices. BLAS copies both into an order of its own before it multiplies them, which
# for few channels takes as long as the product. Here the weight lies in such an order already, and pixels are read
# where they are. A block of pixels times two vectors of output channels stays in registers until its sums are
# complete; then the bias is added, and what is written is activated.

"Panels of a block, and pixels of the smaller of two blocks."
const BLOCK_PANELS, SMALL_BLOCK = 2, 4

"Pixels of a block: their sums, and what these are made of, fill 16 registers of narrow vectors or 32 of wide ones."
block_pixels(::Type{V}) where {V<:Lanes} = 8sizeof(V) == WIDE ? 12 : 6

"Products that are added up before their sum is added to the others: fewer roundings of large values."
const SUMMED_PRODUCTS = 256

"Values of `x` that one panel after the other is multiplied with: half of a usual second cache."
const PANEL_TILE = 2^16

"Vectors of the weight that are asked for before their turn: a processor's own foresight ends with each page."
const AHEAD = 64

"""
    Panels(matrix, bias, V=lanes_for_channels(T, O))

The matrix (I, O) and the bias (O) as [`multiply!`](@ref) reads them: panels of as many outputs as the vector `V` has
lanes, filled up with zeros, each `weight[i, panel]`.
"""
struct Panels{V}
    weight::Matrix{V}
    bias::Vector{V}
    outputs::Int
end
lanes(::Panels{V}) where {V} = fieldcount(V)

Panels(matrix::Matrix{T}, bias) where {T} = Panels(matrix, bias, lanes_for_channels(T, length(bias)))
function Panels(matrix::Matrix{T}, bias::Vector{T}, ::Type{V}) where {T,V<:Lanes{T}}
    outputs = length(bias)
    function panel(row, number) # with `Val`, since the compiler has to know how many lanes there are
        before = fieldcount(V) * (number - 1)
        return ntuple(l -> VecElement(before + l <= outputs ? row[before + l] : zero(T)), Val(fieldcount(V)))
    end
    panels = 1:cld(outputs, fieldcount(V))
    weight = V[panel(view(matrix, i, :), number) for i in axes(matrix, 1), number in panels]
    return Panels{V}(weight, V[panel(bias, number) for number in panels], outputs)
end

"""
Where the values under the taps of an output's pixel lie: `runs` of `run` values, `row` apart, the first after
`before`; those of the next pixel are `step` further.
"""
struct Reach
    runs::Int
    run::Int
    row::Int
    before::Int
    step::Int
end

"""
    multiply!(y, panels, x, reach, activation, columns, which)

`activated(weight' * values .+ bias)` written into some columns of `y` (O, pixels), for `which` of the panels. The
values under the first of these columns lie in `x` where `reach` says.
"""
function multiply!(y::Matrix, panels::Panels{V}, x::Array, reach::Reach, activation, columns, which) where {V}
    check_reach(y, panels, x, reach, columns, which)
    large = block_pixels(V)
    tile = max(1, PANEL_TILE ÷ (reach.run * reach.runs * large)) * large
    for some in Iterators.partition(columns, tile), pair in Iterators.partition(which, BLOCK_PANELS)
        before = reach.before + reach.step * (first(some) - first(columns))
        at_once = length(pair) == BLOCK_PANELS ? Val(BLOCK_PANELS) : Val(1)
        multiply_pixels!(y, panels, x, reach, before, activation, some, first(pair), at_once)
    end
    return y
end

"Some pixels times some panels, in blocks; what is left takes smaller ones, of which the last may write some again."
function multiply_pixels!(y, panels::Panels{V}, x, reach, before, activation, columns, panel, at_once) where {V}
    count, large = length(columns), block_pixels(V)
    block(pixel, pixels) = multiply_block!(
        y, panels, x, reach, before + reach.step * pixel, activation, first(columns) + pixel, panel, at_once, pixels
    )
    whole = count - count % large
    for pixel in 0:large:(whole - 1)
        block(pixel, Val(block_pixels(V)))
    end
    small = count < SMALL_BLOCK ? 1 : SMALL_BLOCK
    for pixel in whole:small:(count - 1)
        small == 1 ? block(pixel, Val(1)) : block(min(pixel, count - SMALL_BLOCK), Val(SMALL_BLOCK))
    end
end

"What `multiply!` reads and writes without looking must be there."
function check_reach(y, (; weight, outputs), x, (; runs, run, row, before, step), columns, which)
    farthest = before + step * (length(columns) - 1) + row * (runs - 1) + run
    inside = 0 <= before && farthest <= length(x) && runs * run == size(weight, 1)
    inside && size(y, 1) == outputs && columns ⊆ axes(y, 2) && which ⊆ axes(weight, 2) && return nothing
    throw(DimensionMismatch("$(size(weight)) panels of $outputs outputs for $(size(x)) into $(size(y))"))
end

"`P` pixels from `column` on times `Q` panels."
@generated function multiply_block!(
    y::Matrix{T}, panels::Panels{V}, x::Array{T}, reach, before, activation, column, panel, ::Val{Q}, ::Val{P}
) where {T,V<:Lanes{T},Q,P}
    return quote
        (; weight, bias) = panels
        (; runs, run, row, step) = reach
        @inbounds begin
            @nexprs $Q q -> @nexprs $P p -> total_q_p = bias[panel + q - 1]
            @nexprs $Q q -> first_q = pointer(weight, (panel + q - 2) * size(weight, 1))
            for number in 0:(runs - 1), start in 0:SUMMED_PRODUCTS:(run - 1)
                @nexprs $Q q -> @nexprs $P p -> sum_q_p = all_lanes(zero(T), V)
                for i in (start + 1):min(start + SUMMED_PRODUCTS, run)
                    @nexprs $Q q -> prefetch(first_q + sizeof(V) * (number * run + i + AHEAD))
                    @nexprs $Q q -> taken_q = weight[number * run + i, panel + q - 1]
                    @nexprs $P p -> begin
                        value = all_lanes(x[before + number * row + (p - 1) * step + i], V)
                        @nexprs $Q q -> sum_q_p = fused(taken_q, value, sum_q_p)
                    end
                end
                @nexprs $Q q -> @nexprs $P p -> total_q_p = added(total_q_p, sum_q_p)
            end
        end
        outputs, lanes = size(y, 1), fieldcount(V)
        GC.@preserve y @nexprs $Q q -> begin
            done = lanes * (panel + q - 2)
            to = pointer(y, (column - 1) * outputs + done + 1)
            @nexprs $P p -> begin
                put!(to + (p - 1) * outputs * sizeof(T), activated_lanes(activation, total_q_p), outputs - done)
            end
        end
        return nothing
    end
end
