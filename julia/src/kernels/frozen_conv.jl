# Convolutions of a frozen model: packed weights, with bias and activation applied as the output is written.

"`weight` (K, K, I/groups, O) and `bias` in the layout that `convolve_frozen!` reads; `lanes` is a vector type."
pack_weight(::PointwiseConv, weight, bias, lanes...) = PackedPanels(channel_matrix(weight), bias, lanes...)
pack_weight(::DenseConv, weight, bias, lanes...) = PackedPanels(tap_matrix(weight), bias, lanes...)
pack_weight(::DepthwiseConv, weight, bias, lanes...) = PackedTaps(weight, bias, lanes...)

"""
    convolve_frozen!(y, x, packed_weight, activation, conv, workspace)

The activated convolution of maps `x` (C, W, H, N), written into `y`. Each thread computes a range of the pixels or,
if there are few, a range of the panels.
"""
function convolve_frozen!(y, x, panels::PackedPanels{V}, activation, ::PointwiseConv, workspace) where {V}
    from, to, numbers = pixels(x), pixels(y), axes(panels.weight, 2)
    block, work_per_pixel = block_pixels(V, BLOCK_PANELS), length(panels.weight) * lane_count(panels)
    if size(to, 2) < 2 * block * Threads.nthreads()
        min_panels = min_items_per_thread(work_per_pixel * size(to, 2) ÷ length(numbers))
        parallel(length(numbers), min_panels) do _, panel_numbers
            multiply_panels!(to, panels, x, pixel_taps(from, axes(to, 2)), activation, axes(to, 2), panel_numbers)
        end
    else
        parallel(size(to, 2), max(block, min_items_per_thread(work_per_pixel))) do _, columns
            multiply_panels!(to, panels, x, pixel_taps(from, columns), activation, columns, numbers)
        end
    end
end

"Each thread computes a range of the rows of all images, from a zero-padded copy of the image."
function convolve_frozen!(y, x, panels::PackedPanels, activation, conv::DenseConv, workspace)
    to, inputs, (_, columns, rows, images) = pixels(y), size(x, 1), size(y)
    sides, margin = (size(x, 2), size(x, 3)) .+ sum(conv.padding), first(conv.padding)
    min_rows = min_items_per_thread(length(panels.weight) * lane_count(panels) * columns)
    padded = [
        fill!(allocate(workspace, eltype(x), inputs, sides...), 0) for _ in 1:chunk_count(rows * images, min_rows)
    ]
    parallel(rows * images, min_rows) do chunk, lines
        for number in fld1(first(lines), rows):fld1(last(lines), rows)
            image = copy_padded_image!(padded[chunk], x, number, margin)
            for line in intersect(lines, ((number - 1) * rows + 1):(number * rows))
                across = inputs * size(image, 2)
                offset = conv.stride * (mod1(line, rows) - 1) * across
                taps = TapLayout(conv.kernel, conv.kernel * inputs, across, offset, conv.stride * inputs)
                line_pixels = ((line - 1) * columns) .+ (1:columns)
                multiply_panels!(to, panels, image, taps, activation, line_pixels, axes(panels.weight, 2))
            end
        end
    end
    foreach(array -> release!(workspace, array), padded)
end

"Multiply-adds of `multiply_panels!` that take as long as one of `correlate_lines!`: 2.3 to 3.8 on Zen 5."
const DEPTHWISE_COST = 3

function convolve_frozen!(y, x, taps::PackedTaps, activation, conv::DepthwiseConv, workspace)
    channels, columns, rows, images = size(y)
    min_lines = min_items_per_thread(DEPTHWISE_COST * conv.kernel^2 * channels * columns)
    parallel(rows * images, min_lines) do _, lines
        correlate_lines!(y, x, taps, activation, conv, lines, Val(conv.kernel), Val(conv.stride))
    end
end
