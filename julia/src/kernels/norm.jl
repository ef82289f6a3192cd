# Batch normalisation, Ioffe & Szegedy, arXiv:1502.03167, with the activation behind it. Sums over pixels
# are taken of RUN pixels in the type of the maps and from there on in Float64: a Float32 mean over
# (W, H, N) loses two bits, which every later layer inherits.

"Pixels whose sums are taken in the type of the maps."
const RUN = 8

"Count, and sums of `x - shift` and its square for each channel. `shift` is one of the values of x."
mutable struct Moments{T}
    count::Int
    const shift::Vector{T}
    const sums::Vector{Float64}
    const squares::Vector{Float64}
end

function new_moments(room, ::Type{T}, channels) where {T}
    sums, squares = array(room, Float64, channels), array(room, Float64, channels)
    return Moments(0, array(room, T, channels), fill!(sums, 0), fill!(squares, 0))
end

"Add the pixels `range` of the matrix `x` (C, P)."
function add_pixels!(moments::Moments{T}, x::Matrix{T}, range) where {T}
    (; shift, sums, squares) = moments
    moments.count == 0 && copyto!(shift, view(x, :, first(range)))
    moments.count += length(range)
    runs(range) do pixel, run
        @inbounds @simd ivdep for c in axes(x, 1)
            total, square = zero(T), zero(T)
            for k in 0:(value(run) - 1)
                difference = x[c, pixel + k] - shift[c]
                total += difference
                square = muladd(difference, difference, square)
            end
            sums[c] += total
            squares[c] += square
        end
    end
    return nothing
end

"Call `f(pixel, Val(count))` for runs of RUN pixels from `pixel` on, then for single ones."
@inline function runs(f::F, range) where {F}
    whole = length(range) ÷ RUN
    for number in 0:(whole - 1)
        f(first(range) + number * RUN, Val(RUN))
    end
    for pixel in (first(range) + whole * RUN):last(range)
        f(pixel, Val(1))
    end
end
@inline value(::Val{N}) where {N} = N

"Mean and biased variance of each channel: two `Vector{Float64}`."
function mean_and_var(parts, room)
    channels = length(first(parts).sums)
    mean, var = array(room, Float64, channels), array(room, Float64, channels)
    count = sum(part.count for part in parts)
    for c in 1:channels
        means = (part.shift[c] + part.sums[c] / part.count for part in parts)
        total = sum(part.count * m for (part, m) in zip(parts, means))
        mean[c] = total / count
        var[c] = sum(zip(parts, means)) do (part, m)
            within = part.squares[c] - part.sums[c]^2 / part.count
            max(within, 0.0) + part.count * abs2(m - mean[c])
        end / count
    end
    return mean, var
end

"`activated((x - centre) * scale + shift)` normalises; these are the vectors, in the type of the maps."
struct Affine{T}
    centre::Vector{T}
    scale::Vector{T}
    shift::Vector{T}
end

function affine(norm_weight::Vector{T}, bias, mean, var, eps, room) where {T}
    centre, scale, shift = (array(room, T, length(bias)) for _ in 1:3)
    for c in eachindex(bias)
        exact = norm_weight[c] / sqrt(var[c] + eps)
        centre[c], scale[c] = mean[c], exact
        shift[c] = bias[c] - (mean[c] - Float64(centre[c])) * exact
    end
    return Affine(centre, scale, shift)
end

release!(room::Workspace, (; centre, scale, shift)::Affine) =
    foreach(unused -> release!(room, unused), (centre, scale, shift))
release!(room::Workspace, (; shift, sums, squares)::Moments) =
    foreach(unused -> release!(room, unused), (shift, sums, squares))

@inline centred(coefficients, x, c) = @inbounds x - coefficients.centre[c]
@inline affinely(coefficients, distance, c) =
    @inbounds muladd(distance, coefficients.scale[c], coefficients.shift[c])
@inline normalised(coefficients, x, c) = affinely(coefficients, centred(coefficients, x, c), c)

"Normalise and activate the pixels `range` of the maps `x` (C, W, H, N)."
function normalise!(y::Array{T,4}, x::Array{T,4}, coefficients, activation, range) where {T}
    channels = size(x, 1)
    runs(range) do pixel, run
        @inbounds @simd ivdep for c in 1:channels
            for n in 0:(value(run) - 1)
                k = (pixel + n - 1) * channels + c
                y[k] = activated(activation, normalised(coefficients, x[k], c), k)
            end
        end
    end
    return y
end

"""
    Slopes(...)

The gradient of a convolution's output `x` by way of norm and activation, for the gradient `dy` of what
they give: `slopes(channel, k)` for the `k`th value. Where the statistics are the batch's own they move with
`x`: `weight * invstd * (g - mean(g) - xhat * mean(g * xhat))`, with `g` being `dy` where the activation
passes it; else the two means drop out.
"""
struct Slopes{T,A}
    dy::Array{T,4}
    x::Array{T,4}
    activation::A
    coefficients::Affine{T}
    constant::Vector{T}
    factor::Vector{T}
end

@inline function (slopes::Slopes)(c, k)
    (; dy, x, activation, coefficients, constant, factor) = slopes
    @inbounds begin
        distance = centred(coefficients, x[k], c)
        g = ifelse(passes(activation, affinely(coefficients, distance, c), k), dy[k], zero(distance))
        return muladd(coefficients.scale[c], g, -muladd(factor[c], distance, constant[c]))
    end
end

"The slopes, and the gradients of the norm's weight and bias written into `dweight` and `dbias`."
function norm_gradients!(
    dweight, dbias, dy::Array{T,4}, x, activation, coefficients, mean, var, eps, batch, room
) where {T}
    sums, products = gradient_sums(dy, x, activation, coefficients, room)
    constant, factor = array(room, T, length(mean)), array(room, T, length(mean))
    count = length(x) ÷ length(mean)
    for c in eachindex(mean)
        rounding = mean[c] - Float64(coefficients.centre[c])
        invstd = 1 / sqrt(var[c] + eps)
        total, product = sums[c], (products[c] - rounding * sums[c]) * invstd
        dweight[c], dbias[c] = product, total
        scale = Float64(coefficients.scale[c])
        slope = batch ? product * invstd / count : 0.0
        level = batch ? total / count : 0.0
        constant[c], factor[c] = scale * (level - rounding * slope), scale * slope
    end
    foreach(unused -> release!(room, unused), (sums, products))
    return Slopes(dy, x, activation, coefficients, constant, factor)
end

"For each channel, the sums over all pixels of `g` and of `g * (x - centre)`: two `Vector{Float64}`."
function gradient_sums(dy::Array{T,4}, x, activation, coefficients, room) where {T}
    channels, count = size(x, 1), length(x) ÷ size(x, 1)
    parts = part_count(count, LEAST_PIXELS)
    sums, products = ([fill!(array(room, Float64, channels), 0) for _ in 1:parts] for _ in 1:2)
    parallel(count, LEAST_PIXELS) do part, range
        add_slopes!(sums[part], products[part], dy, x, activation, coefficients, range)
    end
    add_up!(sums), add_up!(products)
    foreach(unused -> release!(room, unused), (sums[2:end]..., products[2:end]...))
    return first(sums), first(products)
end

function add_slopes!(sums, products, dy::Array{T,4}, x, activation, coefficients, range) where {T}
    channels = size(x, 1)
    runs(range) do pixel, run
        @inbounds @simd ivdep for c in 1:channels
            total, product = zero(T), zero(T)
            for n in 0:(value(run) - 1)
                k = (pixel + n - 1) * channels + c
                distance = centred(coefficients, x[k], c)
                y = affinely(coefficients, distance, c)
                g = ifelse(passes(activation, y, k), dy[k], zero(T))
                total += g
                product = muladd(g, distance, product)
            end
            sums[c] += total
            products[c] += product
        end
    end
end
