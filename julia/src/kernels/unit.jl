# A convolution, its norm and its activation in one: the fast path, on maps (C, W, H, N). In training mode
# the sums for the norm are taken from each tile of the convolution's output while it is in the cache; in
# evaluation mode norm and activation are applied there, so that the output is written once.

"The fast kernels, on maps (C, W, H, N), with the room they take their arrays from."
struct Fast{R}
    room::R
end

"""
What a unit is asked for besides arrays that have gradients. `statistics` are the running mean and
variance, or `nothing` for the batch's own; `mask` (in the kernels' layout) is `nothing` or says on which
piece of the activation values lie; without `keep` the convolution's output may be overwritten.
"""
struct UnitOptions{S,M}
    stride::Int
    padding::NTuple{2,Int}
    groups::Int
    eps::Float64
    ceiling::Union{Nothing,Float64}
    statistics::S
    mask::M
    keep::Bool
end

"The kernel for a convolution of maps of `channels`."
function conv_kind(weight, channels, (; stride, padding, groups))
    kernel = size(weight, 1)
    kernel == 1 && stride == 1 && padding == (0, 0) && groups == 1 && return Pointwise()
    groups == 1 && return Dense(kernel, stride, padding)
    groups == channels == size(weight, 4) && maximum(padding) < kernel &&
        return Depthwise(kernel, stride, padding)
    throw(ConfigError(
        "the fast kernels convolve all channels or each by itself, with less padding than kernel; " *
        "kernels=\"reference\" convolves any. Received: weight $(size(weight)), groups $groups, " *
        "padding $padding, $channels channels",
    ))
end

"""
    conv_norm_act(kernels, x, weight, norm_weight, norm_bias, options::UnitOptions) -> y, conv, mean, var

The maps `x` convolved, normalised and activated, with the convolution's output and the statistics it was
normalised by. Differentiable in all arrays but those of `options`, by way of `y`.
"""
function conv_norm_act(kernels::Fast, x, weight, norm_weight, norm_bias, options)
    (; y, conv, mean, var) = run_unit(kernels.room, x, weight, norm_weight, norm_bias, options, false)
    return y, conv, mean, var
end

function run_unit(
    room, x::Array{T,4}, weight, norm_weight, norm_bias, options, differentiated
) where {T}
    (; ceiling, statistics, mask, eps) = options
    kind = conv_kind(weight, size(x, 1), options)
    activation = activation_of(ceiling, mask, T)
    conv = array(room, T, output_dims(kind, x, size(weight, 4))...)
    ready = prepared(kind, weight, room)
    if isnothing(statistics)
        parts = [new_moments(room, T, size(conv, 1)) for _ in 1:convolve_parts(kind, conv, ready)]
        found = pixels(conv)
        convolve!(conv, x, ready, kind, room) do part, range
            add_pixels!(parts[part], found, range)
        end
        mean, var = mean_and_var(parts, room)
        foreach(part -> release!(room, part), parts)
        coefficients = affine(norm_weight, norm_bias, mean, var, eps, room)
        y = array(room, T, size(conv)...)
        parallel(size(found, 2), LEAST_PIXELS) do _, range
            normalise!(y, conv, coefficients, activation, range)
        end
    else
        mean, var = statistics
        coefficients = affine(norm_weight, norm_bias, mean, var, eps, room)
        y = differentiated || options.keep ? array(room, T, size(conv)...) : conv
        convolve!(conv, x, ready, kind, room) do _, range
            normalise!(y, conv, coefficients, activation, range)
        end
    end
    release!(room, ready)
    return (; y, conv, mean, var, kind, activation, coefficients)
end

function ChainRulesCore.rrule(
    ::typeof(conv_norm_act), kernels::Fast, x::Array{T,4}, weight, norm_weight, norm_bias, options
) where {T}
    room = kernels.room
    run = run_unit(room, x, weight, norm_weight, norm_bias, options, true)
    (; y, conv, mean, var, kind, activation, coefficients) = run
    function conv_norm_act_pullback(gradients)
        dy = convert(Array{T,4}, unthunk(gradients[1]))
        dweight, dscale, dbias = gradient_like.(Ref(room), (weight, norm_weight, norm_bias))
        slopes = norm_gradients!(
            dscale, dbias, dy, conv, activation, coefficients, mean, var, options.eps,
            isnothing(options.statistics), room,
        )
        dx = convolve_pullback!(dweight, slopes, x, weight, kind, room)
        foreach(unused -> release!(room, unused), (y, conv, slopes.constant, slopes.factor))
        release!(room, coefficients)
        return NoTangent(), NoTangent(), dx, dweight, dscale, dbias, NoTangent()
    end
    return (y, conv, mean, var), conv_norm_act_pullback
end

"The gradient of `weight` written into `dweight`, and that of `x`; a dense convolution's only if asked for."
function convolve_pullback!(dweight, slopes, x, weight, kind, room)
    dx = array(room, eltype(x), size(x)...)
    convolve_gradients!(dx, dweight, slopes, x, weight, kind, room)
    return dx
end
function convolve_pullback!(dweight, slopes, x, weight, kind::Dense, room)
    convolve_gradients!(nothing, dweight, slopes, x, weight, kind, room)
    return @thunk dense_input_gradient!(similar(x), slopes, weight, kind)
end

"What a unit's norm gives, before the activation; for taps."
function norm_maps(::Fast, conv, norm_weight, norm_bias, mean, var, eps)
    coefficients = affine(norm_weight, norm_bias, mean, var, eps, Fresh())
    count = length(conv) ÷ size(conv, 1)
    return normalise!(similar(conv), conv, coefficients, Clamped{eltype(conv)}(nothing), 1:count)
end

images_to_maps(kernels::Fast, images) = channels_first(images, kernels.room)
maps_to_images(::Fast, maps) = channels_last(maps)

function ChainRulesCore.rrule(::typeof(images_to_maps), kernels, images)
    function images_to_maps_pullback(gradient)
        return NoTangent(), NoTangent(), maps_to_images(kernels, unthunk(gradient))
    end
    return images_to_maps(kernels, images), images_to_maps_pullback
end
