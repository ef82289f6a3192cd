# The probe of a saved model, in the metadata `probe`, as JSON: a seeded input, and the logits that the writer computed
# for it. Python's pymobilenet/backends/probe.py reads and writes the same.
#
# - `seed` and `shape` (N, C, H, W): the images are `2u - 1` for u uniform in [0, 1) from the words of stream PROBE,
#   epoch 7, index 0, in row-major order, rounded to Float32;
# - `digest`: SHA-256 of the little-endian Float32 bytes of the images, in hex;
# - `float64` and `float32`: the logits (N, classes) of the saved values in either type.

const PROBE = "probe"

"Number of images, and their largest side in pixels: a probe should be cheap, and wrong weights show at any size."
const PROBE_IMAGES, PROBE_LARGEST = 2, 64
const PROBE_EPOCH = 7

"The allowed error of the logits, in units of the error of rounding, and the number of samples of that error."
const PROBE_ALLOWED, PROBE_DRAWS = 30, 5

"The least error of rounding that is assumed, in units in the last place of the norm of a tensor."
const LEAST_ULPS = 16

"The images (W, H, C, N) of a probe, `Float32` in [-1, 1); `shape` is torch's (N, C, H, W)."
function probe_images(seed, shape)
    words = raw_words(seed, STREAM.PROBE, PROBE_EPOCH, 0, prod(shape))
    return reshape(Float32[2.0 * uniform64(word) - 1.0 for word in words], reverse(shape))
end

probe_digest(images) = bytes2hex(sha256(collect(reinterpret(UInt8, vec(htol.(images))))))

"The state of a model in `T`, in canonical order."
state_in(model, ::Type{T}) where {T} = [name => Array{T}(array) for (name, array) in get_state(model)]

"The logits (classes, N) of a state, computed in its element type."
function probe_logits(config, state, images)
    model = model_from_state(config, Dict{String,Array}(state))
    return eval_logits(model, eltype(model).(images))
end

"The metadata by which a saved model can be verified; empty if its logits overflow."
function probe_metadata(model::MobileNet; seed=0)
    (; resolution, in_channels) = model.config
    side = min(resolution, PROBE_LARGEST)
    shape = (PROBE_IMAGES, in_channels, side, side)
    images = probe_images(seed, shape)
    rows = map((Float32, Float64)) do T
        logits = probe_logits(model.config, state_in(model, T), images)
        [Float64.(column) for column in eachcol(logits)]
    end
    all(row -> all(isfinite, row), Iterators.flatten(rows)) || return Dict{String,String}()
    return Dict(PROBE => json_text([
        "digest" => probe_digest(images), "float32" => rows[1], "float64" => rows[2], "seed" => seed,
        "shape" => collect(shape),
    ]))
end

"Seed, shape, digest and logits (classes, N) in the text of a probe."
function read_probe(text, source)
    try
        values = parse_object(text)
        require(
            sort!(collect(keys(values))) == ["digest", "float32", "float64", "seed", "shape"],
            "it must have exactly digest, float32, float64, seed and shape",
        )
        (seed, shape, digest) = (values[name] for name in ("seed", "shape", "digest"))
        require(is_counts([seed]), "seed must be a whole number. Received: $(repr(seed))")
        is_image_shape = is_counts(shape) && length(shape) == 4 &&
                         1 <= something(checked_product(shape), 0) <= 2^24
        require(is_image_shape, "shape must be that of images. Received: $(repr(shape))")
        logits = [checked_logits(values[name], shape[1], name) for name in ("float64", "float32")]
        require(size(logits[1]) == size(logits[2]), "the logits must be of one shape")
        return (; seed=Int(seed), shape=Tuple(Int.(shape)), digest, float64=logits[1], float32=logits[2])
    catch error
        throw(WeightsError("$source: metadata $PROBE: $(broken_rule(error))"))
    end
end

function checked_logits(rows, count, name)
    is_numbers(row) = row isa AbstractVector && all(v -> v isa Real && !(v isa Bool), row)
    is_matrix = rows isa AbstractVector && length(rows) == count && all(is_numbers, rows) &&
                allequal(length.(rows)) && !isempty(rows[1])
    require(is_matrix, "$name must be the logits of $count images")
    return Float64[row[k] for k in eachindex(rows[1]), row in rows]
end

"""
    ProbeCheck

A result of [`MobileNets.verify`](@ref) for one element type: `type`, the norm-wise relative `error` of the recomputed
logits, `floor`, the error of rounding, `allowed`, 30 times `floor`, and `passed`.
"""
struct ProbeCheck
    type::Type
    error::Float64
    floor::Float64
    allowed::Float64
    passed::Bool
end

function Base.show(io::IO, check::ProbeCheck)
    short(value) = string(round(value; sigdigits=2))
    verdict = check.passed ? "agrees" : "DIFFERS"
    print(io, check.type, " ", verdict, ": ", short(check.error), ", allowed ", short(check.allowed))
end

"""
    MobileNets.verify(path; config=nothing)

Recompute the logits in the probe of a file, which were computed by its writer, here or in Python. Returns two
[`MobileNets.ProbeCheck`](@ref), for `Float64` and `Float32`, with `error`, `allowed` and `passed`.

Allowed is 30 times the error of rounding: the largest of five changes of the logits when weights and images change by
one unit in the last place, but at least 16 units in the last place of their norm.

Throws a `WeightsError` as [`MobileNets.read_weights`](@ref) does, for a file without a probe, and for a probe whose
images are not those of its seed.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> path = MobileNets.save(joinpath(mktempdir(), "model.safetensors"), model);

julia> all(check.passed for check in MobileNets.verify(path))
true
```
"""
function verify(path; config=nothing)
    file = read_weights(path; config)
    haskey(file.metadata, PROBE) || throw(WeightsError(
        "$path: has no probe: it was written without, or by another program. Load it where it is known to " *
        "be right, and save it there",
    ))
    probe = read_probe(file.metadata[PROBE], path)
    expected = (file.config.num_classes, file.config.in_channels)
    received = (size(probe.float64, 1), probe.shape[2])
    expected == received || throw(WeightsError(
        "$path: metadata $PROBE: classes and channels must be $expected. Received: $received"
    ))
    images = probe_images(probe.seed, probe.shape)
    digest = probe_digest(images)
    digest == probe.digest || throw(WeightsError(
        "$path: the probe's images are not those of its seed $(probe.seed): their digest must be $digest. " *
        "Received: $(probe.digest)",
    ))
    model = model_from_state(file.config, file.state)
    return [check_probe(model, images, getfield(probe, field), T) for
            (T, field) in ((Float64, :float64), (Float32, :float32))]
end

function check_probe(model, images, logits, ::Type{T}) where {T}
    state, inputs = state_in(model, T), T.(images)
    recomputed = probe_logits(model.config, state, inputs)
    changes = map(0:(PROBE_DRAWS - 1)) do draw
        perturbed = [
            name => occursin("running_", name) ? array : perturb_ulps(array, draw, index - 1) for
            (index, (name, array)) in enumerate(state)
        ]
        relative_error(probe_logits(model.config, perturbed, perturb_ulps(inputs, draw, 1000)), recomputed)
    end
    floor = max(LEAST_ULPS * Float64(eps(T)), changes...)
    error, allowed = relative_error(recomputed, logits), PROBE_ALLOWED * floor
    return ProbeCheck(T, error, floor, allowed, error <= allowed)
end

"Each value changed by one unit in the last place, up or down by the bits of `draw`; 0 does not change."
function perturb_ulps(values::Array{T}, draw, index) where {T}
    bytes = reinterpret(UInt8, htol.(raw_words(draw, STREAM.PROBE, 2, index, cld(length(values), 64))))
    is_up(k) = (bytes[(k - 1) ÷ 8 + 1] >> (7 - (k - 1) % 8)) & 0x01 == 0x01
    perturb(value, up) = iszero(value) ? value : up ? nextfloat(value) : prevfloat(value)
    return reshape(T[perturb(values[k], is_up(k)) for k in eachindex(values)], size(values))
end

"The norm of the difference divided by the norm of `expected`; infinite if a value is not finite."
function relative_error(values, expected)
    values, expected = Float64.(values), Float64.(expected)
    all(isfinite, values) && all(isfinite, expected) || return Inf
    values == expected && return 0.0
    iszero(expected) && return Inf
    return norm(values - expected) / norm(expected)
end
