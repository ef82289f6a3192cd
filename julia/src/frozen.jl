# Inference alone: every norm folded into the convolution before it, and every weight laid out once as its
# kernel reads it.

"A unit of a frozen model: `activated(conv(x) + bias)`, and the block's input added where `residual` says so."
struct FrozenUnit{T,C,W}
    conv::C
    weight::W
    outputs::Int
    activation::Clamped{T}
    residual::Bool
end

"`(conv - mean) / sqrt(var + eps) * weight + bias` as one convolution, in Float64, rounded once."
function FrozenUnit((; conv, norm, ceiling, residual)::ConvNormAct{T}, channels) where {T}
    factor = Float64.(norm.weight) ./ sqrt.(norm.running_var .+ norm.eps)
    weight = T.(conv.weight .* reshape(factor, 1, 1, 1, :))
    bias = T.(norm.bias .- norm.running_mean .* factor)
    kind = conv_kind(weight, channels, conv)
    return FrozenUnit(kind, laid_out(kind, weight, bias), length(bias), Clamped{T}(ceiling), residual)
end

laid_out(::Pointwise, weight, bias, lanes...) = Panels(channel_matrix(weight), bias, lanes...)
laid_out(::Dense, weight, bias, lanes...) = Panels(tap_matrix(weight), bias, lanes...)
laid_out(::Depthwise, weight, bias, lanes...) = TapPanels(weight, bias, lanes...)

"""
What [`freeze`](@ref) gives: a function of images (W, H, C, N). For one task at a time. Of `model` only the
config and the shapes are read.
"""
struct Frozen{T}
    model::MobileNet{T}
    groups::Vector{Vector{FrozenUnit{T}}}
    classifier::Classifier{T}
    room::Pool
end

Base.show(io::IO, frozen::Frozen) = print(io, "Frozen(", frozen.model, ")")

"""
    freeze(model)

A function that gives what `predict(model, x)` gives now, for inference alone, and faster. Norms are folded
into the convolutions, which rounds otherwise than `predict` does. What happens to the model later does not
reach the function. It throws a `DataError` as [`predict`](@ref) does.

```jldoctest
julia> model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> x = ones(Float32, 32, 32, 3, 2);

julia> MobileNets.freeze(model)(x) ≈ predict(model, x)
true
```
"""
function freeze(model::MobileNet{T}) where {T}
    channels = model.config.in_channels
    groups = map(unit_groups(model)) do group
        map(collect(group)) do unit
            frozen = FrozenUnit(unit, channels)
            channels = frozen.outputs
            frozen
        end
    end
    return Frozen{T}(model, groups, deepcopy(model.classifier), Pool())
end

function (frozen::Frozen)(images)
    x = checked_images(frozen.model, images)
    return together(() -> scores(frozen, x))
end

function scores((; model, groups, classifier, room)::Frozen, x)
    reset!(room)
    maps = channels_first(x, room)
    for group in groups
        entered = maps
        for unit in group
            next = frozen_maps(unit, maps, entered, room)
            maps === entered || release!(room, maps)
            maps = next
        end
        release!(room, entered)
    end
    features = global_mean(Fast(room), maps)
    logits = linear(features, classifier.weight, classifier.bias, room)
    return model.config.softmax ? softmax(logits) : copy(logits)
end

function frozen_maps((; conv, weight, outputs, activation, residual)::FrozenUnit{T}, x, entered, room) where {T}
    y = array(room, T, output_dims(conv, x, outputs)...)
    convolve_frozen!(y, x, weight, activation, conv, room)
    residual || return y
    total = add(Fast(room), y, entered)
    release!(room, y)
    return total
end

"Each thread takes some of the pixels or, of few pixels, some of the panels."
function convolve_frozen!(y, x, panels::Panels{V}, activation, ::Pointwise, room) where {V}
    to, inputs, numbers = pixels(y), size(x, 1), axes(panels.weight, 2)
    pixels_at_once, work = block_pixels(V), length(panels.weight) * lanes(panels) # of a pixel
    reach(columns) = Reach(1, inputs, 0, (first(columns) - 1) * inputs, inputs)
    if size(to, 2) < 2 * pixels_at_once * Threads.nthreads()
        parallel(length(numbers), least_items(work * size(to, 2) ÷ length(numbers))) do _, some
            multiply!(to, panels, x, reach(axes(to, 2)), activation, axes(to, 2), some)
        end
    else
        parallel(size(to, 2), max(pixels_at_once, least_items(work))) do _, some
            multiply!(to, panels, x, reach(some), activation, some, numbers)
        end
    end
end

"Each thread takes some of the rows of all images; those of an image are convolved with zeros around it."
function convolve_frozen!(y, x, panels, activation, conv::Dense, room)
    to, inputs, (_, columns, rows, images) = pixels(y), size(x, 1), size(y)
    sides, margin = (size(x, 2), size(x, 3)) .+ sum(conv.padding), first(conv.padding)
    least = least_items(length(panels.weight) * lanes(panels) * columns)
    padded = [fill!(array(room, eltype(x), inputs, sides...), 0) for _ in 1:part_count(rows * images, least)]
    parallel(rows * images, least) do part, lines
        for number in fld1(first(lines), rows):fld1(last(lines), rows)
            image = fill_image!(padded[part], x, number, margin)
            for line in intersect(lines, ((number - 1) * rows + 1):(number * rows))
                across = inputs * size(image, 2)
                before = conv.stride * (mod1(line, rows) - 1) * across
                reach = Reach(conv.kernel, conv.kernel * inputs, across, before, conv.stride * inputs)
                pixels_of_line = ((line - 1) * columns) .+ (1:columns)
                multiply!(to, panels, image, reach, activation, pixels_of_line, axes(panels.weight, 2))
            end
        end
    end
    foreach(unused -> release!(room, unused), padded)
end

"Multiply-adds of `multiply!` that take as long as one of `correlate_lanes!`: 2.3 to 3.8 on Zen 5."
const DEPTHWISE_COST = 3

function convolve_frozen!(y, x, taps::TapPanels, activation, conv::Depthwise, room)
    channels, columns, rows, images = size(y)
    parallel(rows * images, least_items(DEPTHWISE_COST * conv.kernel^2 * channels * columns)) do _, lines
        correlate_lanes!(y, x, taps, activation, conv, lines, Val(conv.kernel))
    end
end
