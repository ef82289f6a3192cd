# The reference implementation on maps (W, H, C, N): NNlib's convolutions and plain broadcasts, which the fast
# kernels are tested against. Sums and the affine part of the norm are computed in Float64.

"NNlib's convolutions and plain broadcasts, on maps (W, H, C, N)."
struct ReferenceKernels end

"""
NNlib, which Flux brings with it, or `nothing` before Flux is loaded. Methods that the extension of Flux added would
invalidate the compiled code of all kernels.
"""
const NNLIB = Ref{Any}(nothing)

"Call a function of NNlib, by its name."
function call_nnlib(name, arguments...; options...)
    isnothing(NNLIB[]) && throw(ConfigError(
        "kernels=:reference requires Flux.jl to be loaded: `using Flux`. Received: a Julia without it"
    ))
    return Base.invokelatest(getproperty(NNLIB[], name), arguments...; options...)
end

workspace_of(::ReferenceKernels) = AllocatingWorkspace()
images_to_maps(::ReferenceKernels, images) = images
maps_to_images(::ReferenceKernels, maps) = maps

"The axes that a norm averages over."
const NORM_DIMS = (1, 2, 4)
per_channel(vector) = reshape(vector, 1, 1, :, 1)

function conv_norm_act(kernels::ReferenceKernels, x::Array{T,4}, weight, norm_weight, norm_bias, options) where {T}
    conv = call_nnlib(:conv, x, weight, conv_dims(x, weight, options))::Array{T,4}
    mean, var = something(options.statistics, batch_statistics(conv))
    maps = norm_maps(kernels, conv, norm_weight, norm_bias, mean, var, options.eps)
    return activate_maps(maps, options.clip_value, options.mask), conv, mean, var
end

function ChainRulesCore.rrule(
    ::typeof(conv_norm_act), kernels::ReferenceKernels, x, weight, norm_weight, norm_bias, options
)
    (; eps, clip_value, statistics, mask) = options
    dims = conv_dims(x, weight, options)
    y, conv, mean, var = conv_norm_act(kernels, x, weight, norm_weight, norm_bias, options)
    function conv_norm_act_pullback(gradients)
        dy = unthunk(gradients[1])
        g = ifelse.(gradient_mask(y, clip_value, mask), dy, zero(eltype(dy)))
        xhat = (conv .- per_channel(Float64.(mean))) ./ per_channel(sqrt.(var .+ eps))
        count = isnothing(statistics) ? length(g) ÷ size(g, 3) : Inf
        dbias = sum(Float64, g; dims=NORM_DIMS)
        dscale = sum(g .* xhat; dims=NORM_DIMS)
        activation_gradient = per_channel(norm_weight ./ sqrt.(var .+ eps)) .*
            (g .- dbias ./ count .- xhat .* (dscale ./ count))
        dconv = eltype(y).(activation_gradient)
        dweight = call_nnlib(:∇conv_filter, x, dconv, dims)
        dx = @thunk call_nnlib(:∇conv_data, dconv, weight, dims)
        narrow(sums) = eltype(norm_weight).(vec(sums))
        return NoTangent(), NoTangent(), dx, dweight, narrow(dscale), narrow(dbias), NoTangent()
    end
    return (y, conv, mean, var), conv_norm_act_pullback
end

function conv_dims(x, weight, (; stride, padding, groups))
    sides = (padding..., padding...)
    return call_nnlib(:DenseConvDims, x, weight; stride, padding=sides, groups, flipkernel=true)
end

"Mean and biased variance of each channel over (W, H, N), in two passes: two `Vector{Float64}`."
function batch_statistics(maps)
    count = length(maps) ÷ size(maps, 3)
    mean = sum(Float64, maps; dims=NORM_DIMS) ./ count
    var = sum(abs2, maps .- mean; dims=NORM_DIMS) ./ count
    return vec(mean), vec(var)
end

function norm_maps(::ReferenceKernels, conv, norm_weight, norm_bias, mean, var, eps)
    scale = norm_weight ./ sqrt.(var .+ eps)
    maps = (conv .- per_channel(Float64.(mean))) .* per_channel(scale) .+ per_channel(norm_bias)
    return eltype(conv).(maps)
end

function activate_maps(maps::Array{T}, clip_value, mask) where {T}
    isnothing(clip_value) && return maps
    isnothing(mask) && return clamp.(maps, zero(T), T(clip_value))
    return ifelse.(mask .== 1, maps, ifelse.(mask .== 2, T(clip_value), zero(T)))
end

"Where the derivative of the activation is 1, from its value `y` or the mask."
function gradient_mask(y, clip_value, mask)
    isnothing(clip_value) && return true
    return isnothing(mask) ? (y .> 0) .& (y .< clip_value) : mask .== 1
end

function global_mean(::ReferenceKernels, x::Array{T,4}) where {T}
    return T.(dropdims(sum(Float64, x; dims=(1, 2)); dims=(1, 2)) ./ (size(x, 1) * size(x, 2)))
end

function ChainRulesCore.rrule(::typeof(global_mean), kernels::ReferenceKernels, x::Array{T,4}) where {T}
    function global_mean_pullback(gradient)
        dy = reshape(unthunk(gradient), 1, 1, size(x, 3), size(x, 4))
        dx = repeat(dy ./ T(size(x, 1) * size(x, 2)), size(x, 1), size(x, 2))
        return NoTangent(), NoTangent(), dx
    end
    return global_mean(kernels, x), global_mean_pullback
end

residual_add(::ReferenceKernels, maps, input) = maps + input
