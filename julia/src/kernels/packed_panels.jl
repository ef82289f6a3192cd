# Matrix products of a frozen model. BLAS packs both factors before it multiplies them, which for few channels takes
# as long as the product. Here the weight is packed once, in panels, and pixels are read where they are. The sums of a
# block of pixels times two panels stay in registers until they are complete; then bias and activation are applied.

"Panels of a block, and pixels of the smaller of two block sizes."
const BLOCK_PANELS, SMALL_BLOCK = 2, 4

"Pixels of a block of some panels: sums and operands fill 16 registers of narrow vectors, or 32 of wide ones."
block_pixels(::Type{V}, panels) where {V<:Lanes} = (8sizeof(V) == WIDE ? 24 : 12) ÷ panels

"Products that are summed before the sum is added to the total, to limit rounding errors."
const PRODUCTS_PER_SUM = 256

"Values of `x` that are multiplied with one panel after the other: half of a typical second-level cache."
const PANEL_TILE_VALUES = 2^16

"Vectors of the weight by which `prefetch` runs ahead: hardware prefetchers stop at the end of a page."
const PREFETCH_DISTANCE = 64

"""
    PackedPanels(matrix, bias, V=lanes_for_channels(T, O))

The matrix (I, O) and the bias (O,) in the layout that [`multiply_panels!`](@ref) reads: panels of as many outputs as
the vector type `V` has lanes, padded with zeros, each `weight[i, panel]`.
"""
struct PackedPanels{V}
    weight::Matrix{V}
    bias::Vector{V}
    outputs::Int
end
lane_count(::PackedPanels{V}) where {V} = fieldcount(V)

PackedPanels(matrix::Matrix{T}, bias) where {T} = PackedPanels(matrix, bias, lanes_for_channels(T, length(bias)))
function PackedPanels(matrix::Matrix{T}, bias::Vector{T}, ::Type{V}) where {T,V<:Lanes{T}}
    outputs = length(bias)
    function panel(row, number) # with `Val`, because the number of lanes must be known to the compiler
        before = fieldcount(V) * (number - 1)
        return ntuple(l -> VecElement(before + l <= outputs ? row[before + l] : zero(T)), Val(fieldcount(V)))
    end
    panels = 1:cld(outputs, fieldcount(V))
    weight = V[panel(view(matrix, i, :), number) for i in axes(matrix, 1), number in panels]
    return PackedPanels{V}(weight, V[panel(bias, number) for number in panels], outputs)
end

"""
    pack_panels(matrix, workspace; transposed=false)

Panels without bias for products with `matrix'`, or with `matrix` if `transposed`, in arrays of `workspace`.
"""
function pack_panels(matrix::Matrix{T}, workspace; transposed=false) where {T}
    values, outputs = transposed ? reverse(size(matrix)) : size(matrix)
    panels = new_panels(workspace, T, lanes_for_channels(T, outputs), values, outputs)
    parallel(length(panels.bias), min_items_per_thread(sizeof(panels.weight))) do _, numbers
        transposed ? pack_rows!(panels, matrix, numbers) : pack_columns!(panels, matrix, numbers)
    end
    return panels
end

function new_panels(workspace, ::Type{T}, ::Type{V}, values, outputs) where {T,V<:Lanes{T}}
    count = cld(outputs, fieldcount(V))
    bias = fill!(allocate(workspace, V, count), fill_lanes(zero(T), V))
    return PackedPanels{V}(allocate(workspace, V, values, count), bias, outputs)
end
release!(workspace::Workspace, (; weight, bias)::PackedPanels) =
    foreach(array -> release!(workspace, array), (weight, bias))

"The values of panels as an array `values[lane, i, panel]`, without a copy."
lane_values(::Type{T}, weight::Matrix{V}) where {T,V} =
    unsafe_wrap(Array, Ptr{T}(pointer(weight)), (fieldcount(V), size(weight)...))

"Panels of columns of `matrix`."
function pack_columns!((; weight, outputs)::PackedPanels{V}, matrix, numbers) where {V}
    GC.@preserve weight begin
        lanes = lane_values(eltype(matrix), weight)
        @inbounds for number in numbers, l in 1:fieldcount(V)
            column = fieldcount(V) * (number - 1) + l
            for i in axes(matrix, 1)
                lanes[l, i, number] = column <= outputs ? matrix[i, column] : zero(eltype(matrix))
            end
        end
    end
end

"Panels of rows of `matrix`."
function pack_rows!((; weight, outputs)::PackedPanels{V}, matrix, numbers) where {V}
    GC.@preserve weight begin
        lanes = lane_values(eltype(matrix), weight)
        @inbounds for number in numbers, i in axes(matrix, 2)
            before = fieldcount(V) * (number - 1)
            @simd ivdep for l in 1:fieldcount(V)
                lanes[l, i, number] = before + l <= outputs ? matrix[before + l, i] : zero(eltype(matrix))
            end
        end
    end
end

"""
Positions of the values under the taps of an output pixel: `runs` contiguous runs of `run_length` values whose starts
are `run_stride` apart, the first one after `offset` values. Each next pixel starts `pixel_stride` values further.
"""
struct TapLayout
    runs::Int
    run_length::Int
    run_stride::Int
    offset::Int
    pixel_stride::Int
end

"""
    multiply_panels!(y, panels, x, taps::TapLayout, activation, columns, panel_numbers)

`activate(weight' * values .+ bias)` written into the columns `columns` of `y` (O, pixels), for some of the panels.
`taps` are the positions in `x` of the values of the first of these columns.
"""
function multiply_panels!(
    y::Matrix, panels::PackedPanels{V}, x::Array, taps::TapLayout, activation, columns, panel_numbers
) where {V}
    check_panel_bounds(y, panels, x, taps, columns, panel_numbers)
    large = block_pixels(V, 1)
    tile = max(1, PANEL_TILE_VALUES ÷ (taps.run_length * taps.runs * large)) * large
    for tile_columns in Iterators.partition(columns, tile), pair in Iterators.partition(panel_numbers, BLOCK_PANELS)
        offset = taps.offset + taps.pixel_stride * (first(tile_columns) - first(columns))
        count = length(pair) == BLOCK_PANELS ? Val(BLOCK_PANELS) : Val(1)
        multiply_tile!(y, panels, x, taps, offset, activation, tile_columns, first(pair), count)
    end
    return y
end

"A tile of pixels times `panel_count` panels, in blocks. The last of the small blocks may compute pixels again."
function multiply_tile!(
    y, panels::PackedPanels{V}, x, taps, offset, activation, columns, panel, panel_count::Val{Q}
) where {V,Q}
    count, large = length(columns), block_pixels(V, Q)
    block(pixel, pixels) = multiply_block!(
        y, panels, x, taps, offset + taps.pixel_stride * pixel, activation, first(columns) + pixel, panel,
        panel_count, pixels,
    )
    large_end = count - count % large
    for pixel in 0:large:(large_end - 1)
        block(pixel, Val(block_pixels(V, Q)))
    end
    small = count < SMALL_BLOCK ? 1 : SMALL_BLOCK
    for pixel in large_end:small:(count - 1)
        small == 1 ? block(pixel, Val(1)) : block(min(pixel, count - SMALL_BLOCK), Val(SMALL_BLOCK))
    end
end

"Bounds of what `multiply_panels!` reads and writes without checks."
function check_panel_bounds(y, (; weight, outputs), x, taps, columns, panel_numbers)
    (; runs, run_length, run_stride, offset, pixel_stride) = taps
    last_value = offset + pixel_stride * (length(columns) - 1) + run_stride * (runs - 1) + run_length
    inside = 0 <= offset && last_value <= length(x) && runs * run_length == size(weight, 1)
    fits = inside && size(y, 1) == outputs && columns ⊆ axes(y, 2) && panel_numbers ⊆ axes(weight, 2)
    fits && return nothing
    throw(DimensionMismatch("$(size(weight)) panels of $outputs outputs for $(size(x)) into $(size(y))"))
end

"`P` pixels from `column` on times `Q` panels from `panel` on."
@generated function multiply_block!(
    y::Matrix{T}, panels::PackedPanels{V}, x::Array{T}, taps, offset, activation, column, panel, ::Val{Q}, ::Val{P}
) where {T,V<:Lanes{T},Q,P}
    return quote
        (; weight, bias) = panels
        (; runs, run_length, run_stride, pixel_stride) = taps
        @inbounds begin
            @nexprs $Q q -> @nexprs $P p -> total_q_p = bias[panel + q - 1]
            @nexprs $Q q -> first_q = pointer(weight, (panel + q - 2) * size(weight, 1))
            for run in 0:(runs - 1), start in 0:PRODUCTS_PER_SUM:(run_length - 1)
                @nexprs $Q q -> @nexprs $P p -> sum_q_p = fill_lanes(zero(T), V)
                for i in (start + 1):min(start + PRODUCTS_PER_SUM, run_length)
                    @nexprs $Q q -> prefetch(first_q + sizeof(V) * (run * run_length + i + PREFETCH_DISTANCE))
                    @nexprs $Q q -> weight_q = weight[run * run_length + i, panel + q - 1]
                    @nexprs $P p -> begin
                        value = fill_lanes(x[offset + run * run_stride + (p - 1) * pixel_stride + i], V)
                        @nexprs $Q q -> sum_q_p = muladd_lanes(weight_q, value, sum_q_p)
                    end
                end
                @nexprs $Q q -> @nexprs $P p -> total_q_p = add_lanes(total_q_p, sum_q_p)
            end
        end
        outputs, lanes = size(y, 1), fieldcount(V)
        GC.@preserve y @nexprs $Q q -> begin
            before = lanes * (panel + q - 2)
            to = pointer(y, (column - 1) * outputs + before + 1)
            @nexprs $P p -> begin
                store_lanes!(
                    to + (p - 1) * outputs * sizeof(T), activate_lanes(activation, total_q_p), outputs - before
                )
            end
        end
        return nothing
    end
end
