# Batch normalisation, Ioffe & Szegedy, arXiv:1502.03167, and the activation after it. Sums over pixels are taken in
# the element type of the maps for runs of PIXELS_PER_RUN pixels, and in Float64 over the runs: a Float32 mean over
# (W, H, N) loses two bits, an error that every later layer would inherit.

"Pixels whose sums are taken in the element type of the maps."
const PIXELS_PER_RUN = 8

"Count, and for each channel the sums of `x - shift` and of its square. `shift` is one of the values of x."
mutable struct ChannelMoments{T}
    count::Int
    const shift::Vector{T}
    const sums::Vector{Float64}
    const squares::Vector{Float64}
end

function new_moments(workspace, ::Type{T}, channels) where {T}
    sums, squares = allocate(workspace, Float64, channels), allocate(workspace, Float64, channels)
    return ChannelMoments(0, allocate(workspace, T, channels), fill!(sums, 0), fill!(squares, 0))
end

"Add the pixels `range` of the matrix `x` (C, P)."
function add_pixels!(moments::ChannelMoments{T}, x::Matrix{T}, range) where {T}
    (; shift, sums, squares) = moments
    moments.count == 0 && copyto!(shift, view(x, :, first(range)))
    moments.count += length(range)
    each_run(range) do pixel, run
        @inbounds @simd ivdep for c in axes(x, 1)
            total, square = zero(T), zero(T)
            for k in 0:(run_length(run) - 1)
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

"Call `f(pixel, Val(count))` for runs of PIXELS_PER_RUN pixels from `pixel` on, then for the remaining single ones."
@inline function each_run(f::F, range) where {F}
    runs = length(range) ÷ PIXELS_PER_RUN
    for number in 0:(runs - 1)
        f(first(range) + number * PIXELS_PER_RUN, Val(PIXELS_PER_RUN))
    end
    for pixel in (first(range) + runs * PIXELS_PER_RUN):last(range)
        f(pixel, Val(1))
    end
end
@inline run_length(::Val{N}) where {N} = N

"Mean and biased variance of each channel, two `Vector{Float64}`, from the moments of all chunks."
function mean_and_var(chunks, workspace)
    channels = length(first(chunks).sums)
    mean, var = allocate(workspace, Float64, channels), allocate(workspace, Float64, channels)
    count = sum(chunk.count for chunk in chunks)
    for c in 1:channels
        means = (chunk.shift[c] + chunk.sums[c] / chunk.count for chunk in chunks)
        total = sum(chunk.count * m for (chunk, m) in zip(chunks, means))
        mean[c] = total / count
        var[c] = sum(zip(chunks, means)) do (chunk, m)
            within = chunk.squares[c] - chunk.sums[c]^2 / chunk.count
            max(within, 0.0) + chunk.count * abs2(m - mean[c])
        end / count
    end
    return mean, var
end

"The normalisation `(x - center) * scale + shift`, with vectors in the element type of the maps."
struct Affine{T}
    center::Vector{T}
    scale::Vector{T}
    shift::Vector{T}
end

function affine(norm_weight::Vector{T}, bias, mean, var, eps, workspace) where {T}
    center, scale, shift = (allocate(workspace, T, length(bias)) for _ in 1:3)
    for c in eachindex(bias)
        exact = norm_weight[c] / sqrt(var[c] + eps)
        center[c], scale[c] = mean[c], exact
        shift[c] = bias[c] - (mean[c] - Float64(center[c])) * exact
    end
    return Affine(center, scale, shift)
end

release!(workspace::Workspace, (; center, scale, shift)::Affine) =
    foreach(array -> release!(workspace, array), (center, scale, shift))
release!(workspace::Workspace, (; shift, sums, squares)::ChannelMoments) =
    foreach(array -> release!(workspace, array), (shift, sums, squares))

@inline center(coefficients, x, c) = @inbounds x - coefficients.center[c]
@inline scale_and_shift(coefficients, distance, c) =
    @inbounds muladd(distance, coefficients.scale[c], coefficients.shift[c])
@inline normalise(coefficients, x, c) = scale_and_shift(coefficients, center(coefficients, x, c), c)

"Normalise and activate the pixels `range` of the maps `x` (C, W, H, N)."
function normalise!(y::Array{T,4}, x::Array{T,4}, coefficients, activation, range) where {T}
    channels = size(x, 1)
    each_run(range) do pixel, run
        @inbounds @simd ivdep for c in 1:channels
            for n in 0:(run_length(run) - 1)
                k = (pixel + n - 1) * channels + c
                y[k] = activate(activation, normalise(coefficients, x[k], c), k)
            end
        end
    end
    return y
end

"""
    ActivationGradient(...)

The gradient of a convolution's output `x` through norm and activation, for the gradient `dy` of their result:
`activation_gradient(channel, k)` is that of the `k`th value. With the statistics of the batch, which depend on `x`,
it is `weight * invstd * (g - mean(g) - xhat * mean(g * xhat))`, where `g` is `dy` where the activation passes the
gradient, and 0 elsewhere; with running statistics it is `weight * invstd * g`.
"""
struct ActivationGradient{T,A}
    dy::Array{T,4}
    x::Array{T,4}
    activation::A
    coefficients::Affine{T}
    constant::Vector{T}
    factor::Vector{T}
end

@inline function (activation_gradient::ActivationGradient)(c, k)
    (; dy, x, activation, coefficients, constant, factor) = activation_gradient
    @inbounds begin
        distance = center(coefficients, x[k], c)
        passes = passes_gradient(activation, scale_and_shift(coefficients, distance, c), k)
        g = ifelse(passes, dy[k], zero(distance))
        return muladd(coefficients.scale[c], g, -muladd(factor[c], distance, constant[c]))
    end
end

"The activation gradient; the gradients of the norm's weight and bias are written into `dweight` and `dbias`."
function norm_gradients!(
    dweight, dbias, dy::Array{T,4}, x, activation, coefficients, mean, var, eps, uses_batch_statistics, workspace
) where {T}
    sums, products = gradient_sums(dy, x, activation, coefficients, workspace)
    constant, factor = allocate(workspace, T, length(mean)), allocate(workspace, T, length(mean))
    count = length(x) ÷ length(mean)
    for c in eachindex(mean)
        rounding = mean[c] - Float64(coefficients.center[c])
        invstd = 1 / sqrt(var[c] + eps)
        total, product = sums[c], (products[c] - rounding * sums[c]) * invstd
        dweight[c], dbias[c] = product, total
        scale = Float64(coefficients.scale[c])
        slope = uses_batch_statistics ? product * invstd / count : 0.0
        level = uses_batch_statistics ? total / count : 0.0
        constant[c], factor[c] = scale * (level - rounding * slope), scale * slope
    end
    foreach(array -> release!(workspace, array), (sums, products))
    return ActivationGradient(dy, x, activation, coefficients, constant, factor)
end

"For each channel the sums over all pixels of `g` and of `g * (x - center)`: two `Vector{Float64}`."
function gradient_sums(dy::Array{T,4}, x, activation, coefficients, workspace) where {T}
    channels, count = size(x, 1), length(x) ÷ size(x, 1)
    chunks = chunk_count(count, MIN_PIXELS_PER_THREAD)
    sums, products = ([fill!(allocate(workspace, Float64, channels), 0) for _ in 1:chunks] for _ in 1:2)
    parallel(count, MIN_PIXELS_PER_THREAD) do chunk, range
        add_gradient_sums!(sums[chunk], products[chunk], dy, x, activation, coefficients, range)
    end
    sum_into_first!(sums), sum_into_first!(products)
    foreach(array -> release!(workspace, array), (sums[2:end]..., products[2:end]...))
    return first(sums), first(products)
end

function add_gradient_sums!(sums, products, dy::Array{T,4}, x, activation, coefficients, range) where {T}
    channels = size(x, 1)
    each_run(range) do pixel, run
        @inbounds @simd ivdep for c in 1:channels
            total, product = zero(T), zero(T)
            for n in 0:(run_length(run) - 1)
                k = (pixel + n - 1) * channels + c
                distance = center(coefficients, x[k], c)
                y = scale_and_shift(coefficients, distance, c)
                g = ifelse(passes_gradient(activation, y, k), dy[k], zero(T))
                total += g
                product = muladd(g, distance, product)
            end
            sums[c] += total
            products[c] += product
        end
    end
end
