"Mean and standard deviation of CIFAR-100's training images, for each channel, of values in [0, 1]."
const CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)

"Mean and standard deviation of CIFAR-10's training images."
const CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

"""
Name of a preprocessing => mean and standard deviation for [`normalise_images`](@ref): "unit" scales to [0, 1], "keras"
to [-1, 1], and "standard" is that of CIFAR-100.
"""
const PREPROCESSING = Dict(
    "unit" => ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "standard" => (CIFAR100_MEAN, CIFAR100_STD),
    "keras" => ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
)

"""
    normalise_images(images, mean, std, T=Float32)

`(x / 255 - mean) / std` for `UInt8` images (W, H, C, B), computed in `Float64` and rounded once to `T`. `mean` and
`std` have a value for each channel, of pixel values in [0, 1].

Throws a `ConfigError` for another number of values, a mean that is not finite, and a `std` that is not positive.

```jldoctest
julia> normalise_images(fill(0xff, 1, 1, 3, 1), (0.5, 0.5, 0.5), (0.5, 0.5, 0.25)) |> vec
3-element Vector{Float32}:
 1.0
 1.0
 2.0
```
"""
function normalise_images(images::AbstractArray{UInt8,4}, mean, std, T::Type=Float32)
    channels = size(images, 3)
    if length(mean) != channels || length(std) != channels
        throw(ConfigError(
            "mean and std must hold one value for each of the $channels channels. " *
            "Received: $mean, $std",
        ))
    end
    if !all(isfinite, mean) || !all(s -> isfinite(s) && s > 0, std)
        throw(ConfigError(
            "mean must be finite and std finite and positive. Received: $mean, $std"
        ))
    end
    table = [T((value / 255 - mean[c]) / std[c]) for value in 0:255, c in 1:channels]
    return [table[images[index] + 1, index[3]] for index in CartesianIndices(images)]
end

"""
    MobileNets.scaling(metadata)

Mean and standard deviation by which the images of a model were scaled, for [`normalise_images`](@ref) and
[`fit!`](@ref), from the metadata of its file: its `mean` and `std`, or those of its `preprocessing`. Throws a
`WeightsError` if they are not three finite numbers each, and for an unknown preprocessing.

```jldoctest
julia> MobileNets.scaling(Dict("preprocessing" => "keras"))
((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
```
"""
function scaling(metadata)
    name = get(metadata, "preprocessing", "standard")
    haskey(PREPROCESSING, name) || throw(WeightsError(
        "metadata preprocessing must be one of $(join(sort!(collect(keys(PREPROCESSING))), ", ")). " *
        "Received: $(repr(name))"
    ))
    haskey(metadata, "mean") == haskey(metadata, "std") ||
        throw(WeightsError("metadata mean and std must be there both, or neither. Received: one of them"))
    haskey(metadata, "mean") || return PREPROCESSING[name]
    return three_numbers(metadata, "mean", _ -> true), three_numbers(metadata, "std", >(0))
end

function three_numbers(metadata, key, is_in_range)
    values = try
        JSON.parse(metadata[key])
    catch
        nothing
    end
    is_valid(value) = value isa Real && !(value isa Bool) && isfinite(value) && is_in_range(value)
    values isa AbstractVector && length(values) == 3 && all(is_valid, values) || throw(WeightsError(
        "metadata $key must be JSON, three finite numbers, of std above 0. Received: $(metadata[key])"
    ))
    return Tuple(Float64.(values))
end
