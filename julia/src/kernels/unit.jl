# A convolution, its norm and its activation as one operation: the fast path, on maps (C, W, H, N). In training mode
# the sums for the norm are taken from each tile of the convolution's output while it is in the cache. In evaluation
# mode norm and activation are applied there, so that the output is written once.

"The kernels of this package, on maps (C, W, H, N), and the workspace they take their arrays from."
struct FastKernels{W}
    workspace::W
end

workspace_of(kernels::FastKernels) = kernels.workspace

"""
Arguments of a unit without gradients. `clip_value` is that of its activation, `nothing` for a linear unit.
`statistics` are the running mean and variance, or `nothing` for those of the batch. `mask`, in the kernels' layout,
is `nothing` or the activation mask. Without `keep_conv` the convolution's output may be overwritten.
"""
struct UnitOptions{S,M}
    stride::Int
    padding::NTuple{2,Int}
    groups::Int
    eps::Float64
    clip_value::Union{Nothing,Float64}
    statistics::S
    mask::M
    keep_conv::Bool
end

"The kernel for a convolution of maps with `channels` channels."
function conv_kind(weight, channels, (; stride, padding, groups))
    kernel = size(weight, 1)
    kernel == 1 && stride == 1 && padding == (0, 0) && groups == 1 && return PointwiseConv()
    groups == 1 && return DenseConv(kernel, stride, padding)
    groups == channels == size(weight, 4) && maximum(padding) < kernel &&
        return DepthwiseConv(kernel, stride, padding)
    throw(ConfigError(
        "the fast kernels require one group or a group for each channel, and less padding than kernel; " *
        "kernels=:reference supports any convolution. Received: weight $(size(weight)), groups $groups, " *
        "padding $padding, $channels channels",
    ))
end

"""
    conv_norm_act(kernels, x, weight, norm_weight, norm_bias, options::UnitOptions) -> y, conv, mean, var

Convolve, normalise and activate the maps `x`; also returns the convolution's output and the statistics of the
normalisation. Differentiable in all arrays but those of `options`, through `y`.
"""
function conv_norm_act(kernels::FastKernels, x, weight, norm_weight, norm_bias, options)
    (; y, conv, mean, var) = run_unit(kernels.workspace, x, weight, norm_weight, norm_bias, options, false)
    return y, conv, mean, var
end

function run_unit(
    workspace, x::Array{T,4}, weight, norm_weight, norm_bias, options, is_differentiated
) where {T}
    (; clip_value, statistics, mask, eps) = options
    kind = conv_kind(weight, size(x, 1), options)
    activation = activation_for(clip_value, mask, T)
    conv = allocate(workspace, T, output_dims(kind, x, size(weight, 4))...)
    prepared = prepare_weight(kind, weight, workspace)
    if isnothing(statistics)
        moments = [
            new_moments(workspace, T, size(conv, 1)) for _ in 1:conv_chunk_count(kind, conv, prepared)
        ]
        conv_pixels = pixels(conv)
        convolve!(conv, x, prepared, kind, workspace) do chunk, range
            add_pixels!(moments[chunk], conv_pixels, range)
        end
        mean, var = mean_and_var(moments, workspace)
        foreach(chunk_moments -> release!(workspace, chunk_moments), moments)
        coefficients = affine(norm_weight, norm_bias, mean, var, eps, workspace)
        y = allocate(workspace, T, size(conv)...)
        parallel(size(conv_pixels, 2), MIN_PIXELS_PER_THREAD) do _, range
            normalise!(y, conv, coefficients, activation, range)
        end
    else
        mean, var = statistics
        coefficients = affine(norm_weight, norm_bias, mean, var, eps, workspace)
        y = is_differentiated || options.keep_conv ? allocate(workspace, T, size(conv)...) : conv
        convolve!(conv, x, prepared, kind, workspace) do _, range
            normalise!(y, conv, coefficients, activation, range)
        end
    end
    release!(workspace, prepared)
    return (; y, conv, mean, var, kind, activation, coefficients)
end

function ChainRulesCore.rrule(
    ::typeof(conv_norm_act), kernels::FastKernels, x::Array{T,4}, weight, norm_weight, norm_bias, options
) where {T}
    (; workspace) = kernels
    result = run_unit(workspace, x, weight, norm_weight, norm_bias, options, true)
    (; y, conv, mean, var, kind, activation, coefficients) = result
    function conv_norm_act_pullback(gradients)
        dy = convert(Array{T,4}, unthunk(gradients[1]))
        dweight, dscale, dbias = gradient_array.(Ref(workspace), (weight, norm_weight, norm_bias))
        activation_gradient = norm_gradients!(
            dscale, dbias, dy, conv, activation, coefficients, mean, var, options.eps,
            isnothing(options.statistics), workspace,
        )
        dx = convolve_pullback!(dweight, activation_gradient, x, weight, kind, workspace)
        (; constant, factor) = activation_gradient
        foreach(array -> release!(workspace, array), (y, conv, constant, factor))
        release!(workspace, coefficients)
        return NoTangent(), NoTangent(), dx, dweight, dscale, dbias, NoTangent()
    end
    return (y, conv, mean, var), conv_norm_act_pullback
end

"The gradient of `weight`, written into `dweight`, and that of `x`, for a `DenseConv` as a thunk."
function convolve_pullback!(dweight, activation_gradient, x, weight, kind, workspace)
    dx = allocate(workspace, eltype(x), size(x)...)
    convolve_gradients!(dx, dweight, activation_gradient, x, weight, kind, workspace)
    return dx
end
function convolve_pullback!(dweight, activation_gradient, x, weight, kind::DenseConv, workspace)
    convolve_gradients!(nothing, dweight, activation_gradient, x, weight, kind, workspace)
    return @thunk dense_input_gradient!(similar(x), activation_gradient, weight, kind)
end

"The output of a unit's norm before the activation, which `conv_norm_act` does not store."
function norm_maps(::FastKernels, conv, norm_weight, norm_bias, mean, var, eps)
    coefficients = affine(norm_weight, norm_bias, mean, var, eps, AllocatingWorkspace())
    count = length(conv) ÷ size(conv, 1)
    return normalise!(similar(conv), conv, coefficients, ClampActivation{eltype(conv)}(nothing), 1:count)
end

"Images (W, H, C, N) in the layout of the kernels, and back."
images_to_maps(kernels::FastKernels, images) = to_channels_last(images, kernels.workspace)
maps_to_images(::FastKernels, maps) = from_channels_last(maps)

function ChainRulesCore.rrule(::typeof(images_to_maps), kernels, images)
    function images_to_maps_pullback(gradient)
        return NoTangent(), NoTangent(), maps_to_images(kernels, unthunk(gradient))
    end
    return images_to_maps(kernels, images), images_to_maps_pullback
end

function ChainRulesCore.rrule(::typeof(maps_to_images), kernels, maps)
    function maps_to_images_pullback(gradient)
        return NoTangent(), NoTangent(), images_to_maps(kernels, unthunk(gradient))
    end
    return maps_to_images(kernels, maps), maps_to_images_pullback
end
