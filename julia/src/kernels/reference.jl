# The straightforward path on maps (W, H, C, N): NNlib's convolutions and plain broadcasts, which the fast
# kernels are tested against. Sums and the affine step of the norm run in Float64.

"NNlib's convolutions and plain broadcasts, on maps (W, H, C, N)."
struct Reference end

room_of(::Reference) = Fresh()
images_to_maps(::Reference, images) = images
maps_to_images(::Reference, maps) = maps

const PLANES = (1, 2, 4)
across(vector) = reshape(vector, 1, 1, :, 1)

function conv_norm_act(kernels::Reference, x, weight, norm_weight, norm_bias, options)
    conv = NNlib.conv(x, weight, conv_dims(x, weight, options))
    mean, var = something(options.statistics, batch_statistics(conv))
    maps = norm_maps(kernels, conv, norm_weight, norm_bias, mean, var, options.eps)
    return activate(maps, options.ceiling, options.mask), conv, mean, var
end

function ChainRulesCore.rrule(
    ::typeof(conv_norm_act), kernels::Reference, x, weight, norm_weight, norm_bias, options
)
    (; eps, ceiling, statistics, mask) = options
    dims = conv_dims(x, weight, options)
    y, conv, mean, var = conv_norm_act(kernels, x, weight, norm_weight, norm_bias, options)
    function conv_norm_act_pullback(gradients)
        dy = unthunk(gradients[1])
        g = ifelse.(passes_of(y, ceiling, mask), dy, zero(eltype(dy)))
        xhat = (conv .- across(Float64.(mean))) ./ across(sqrt.(var .+ eps))
        count = isnothing(statistics) ? length(g) ÷ size(g, 3) : Inf
        dbias = sum(Float64, g; dims=PLANES)
        dscale = sum(g .* xhat; dims=PLANES)
        slopes = across(norm_weight ./ sqrt.(var .+ eps)) .*
            (g .- dbias ./ count .- xhat .* (dscale ./ count))
        dconv = eltype(y).(slopes)
        dweight = NNlib.∇conv_filter(x, dconv, dims)
        dx = @thunk NNlib.∇conv_data(dconv, weight, dims)
        narrow(sums) = eltype(norm_weight).(vec(sums))
        return NoTangent(), NoTangent(), dx, dweight, narrow(dscale), narrow(dbias), NoTangent()
    end
    return (y, conv, mean, var), conv_norm_act_pullback
end

function conv_dims(x, weight, (; stride, padding, groups))
    sides = (padding..., padding...)
    return NNlib.DenseConvDims(x, weight; stride, padding=sides, groups, flipkernel=true)
end

"Mean and biased variance of each channel over (W, H, N), in two passes: two `Vector{Float64}`."
function batch_statistics(maps)
    count = length(maps) ÷ size(maps, 3)
    mean = sum(Float64, maps; dims=PLANES) ./ count
    var = sum(abs2, maps .- mean; dims=PLANES) ./ count
    return vec(mean), vec(var)
end

function norm_maps(::Reference, conv, norm_weight, norm_bias, mean, var, eps)
    scale = norm_weight ./ sqrt.(var .+ eps)
    maps = (conv .- across(Float64.(mean))) .* across(scale) .+ across(norm_bias)
    return eltype(conv).(maps)
end

function activate(maps::Array{T}, ceiling, mask) where {T}
    isnothing(ceiling) && return maps
    isnothing(mask) && return clamp.(maps, zero(T), T(ceiling))
    return ifelse.(mask .== 1, maps, ifelse.(mask .== 2, T(ceiling), zero(T)))
end

"Where the activation's gradient is 1, told by its value `y` or the mask."
function passes_of(y, ceiling, mask)
    isnothing(ceiling) && return true
    return isnothing(mask) ? (y .> 0) .& (y .< ceiling) : mask .== 1
end

function global_mean(::Reference, x::Array{T,4}) where {T}
    return T.(dropdims(sum(Float64, x; dims=(1, 2)); dims=(1, 2)) ./ (size(x, 1) * size(x, 2)))
end

function ChainRulesCore.rrule(::typeof(global_mean), kernels::Reference, x::Array{T,4}) where {T}
    function global_mean_pullback(gradient)
        dy = reshape(unthunk(gradient), 1, 1, size(x, 3), size(x, 4))
        dx = repeat(dy ./ T(size(x, 1) * size(x, 2)), size(x, 1), size(x, 2))
        return NoTangent(), NoTangent(), dx
    end
    return global_mean(kernels, x), global_mean_pullback
end

add(::Reference, maps, input) = maps + input
