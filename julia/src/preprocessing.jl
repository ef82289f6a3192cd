"The mean and deviation of CIFAR-100's training images, for each channel in [0, 1] units."
const CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)

"The mean and deviation of CIFAR-10's training images."
const CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

"""
Name of a preprocessing -> mean and deviation, as [`normalise`](@ref) takes them: "unit" gives [0, 1],
"keras" x / 127.5 - 1, and "standard" is for CIFAR-100.
"""
const PREPROCESSING = Dict(
    "unit" => ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "standard" => (CIFAR100_MEAN, CIFAR100_STD),
    "keras" => ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
)

"""
    normalise(images, mean, std, T=Float32)

`(x / 255 - mean) / std`, computed in `Float64` and rounded once to `T`, for `UInt8` images
(W, H, C, B); `mean` and `std` hold a value in [0, 1] units for each channel.
"""
function normalise(images::AbstractArray{UInt8,4}, mean, std, T::Type=Float32)
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
    return [table[images[at] + 1, at[3]] for at in CartesianIndices(images)]
end

"""
    scaling(metadata)

Mean and deviation, as [`normalise`](@ref) and [`fit!`](@ref) take them, that the images of a model were scaled
by, from the metadata of its file; where there are none, those of its preprocessing. Throws a `WeightsError`
for others than three finite numbers each, and for an unknown preprocessing.
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

function three_numbers(metadata, key, is_allowed)
    values = try
        JSON.parse(metadata[key])
    catch
        nothing
    end
    is_good(value) = value isa Real && !(value isa Bool) && isfinite(value) && is_allowed(value)
    values isa AbstractVector && length(values) == 3 && all(is_good, values) || throw(WeightsError(
        "metadata $key must be JSON, three finite numbers, of std above 0. Received: $(metadata[key])"
    ))
    return Tuple(Float64.(values))
end
