# The probe a saved model carries in the metadata `probe`, a JSON text: a seeded input, and the logits it gave
# where it was written. Python's pymobilenet/backends/probe.py writes and reads the same.
#
# - `seed` and `shape` (N, C, H, W): the images are `2u - 1` for u uniform in [0, 1) from the words of stream
#   PROBE, epoch 7, index 0, in row-major order, rounded to Float32;
# - `digest`: SHA-256 of those images' little-endian Float32 bytes, in hex;
# - `float64` and `float32`: the logits (N, classes) of the saved values in either type.

const PROBE = "probe"

"Two images of at most so many pixels: a probe is to cost little; wrong weights show at any size."
const PROBE_IMAGES, PROBE_LARGEST = 2, 64
const PROBE_EPOCH = 7

"The errors of a type's logits that pass: this many times what rounding does to them, over so many draws."
const PROBE_ALLOWED, PROBE_DRAWS = 30, 5

"Rounding is taken to move a tensor by at least so many units in the last place of its norm."
const LEAST_ULPS = 16

"The images (W, H, C, N) of a probe, `Float32` in [-1, 1); `shape` is torch's (N, C, H, W)."
function probe_images(seed, shape)
    words = raw_words(seed, STREAM.PROBE, PROBE_EPOCH, 0, prod(shape))
    return reshape(Float32[2.0 * uniform64(word) - 1.0 for word in words], reverse(shape))
end

probe_digest(images) = bytes2hex(sha256(collect(reinterpret(UInt8, vec(htol.(images))))))

"A model's state in `T`, in the canonical order."
state_in(model, ::Type{T}) where {T} = [name => Array{T}(array) for (name, array) in get_state(model)]

"Logits (classes, N) of values, given by name, in their own type."
function probe_logits(config, state, images)
    model = model_of(config, Dict{String,Array}(state))
    return evaluate(model, eltype(model).(images))
end

"The metadata by which a saved model can be verified: none where its logits overflow."
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

"Seed, shape, digest and logits (classes, N) in a probe's text."
function read_probe(text, source)
    try
        values = parse_object(text)
        require(
            sort!(collect(keys(values))) == ["digest", "float32", "float64", "seed", "shape"],
            "it must have exactly digest, float32, float64, seed and shape",
        )
        (seed, shape, digest) = (values[name] for name in ("seed", "shape", "digest"))
        require(iscounts([seed]), "seed must be a whole number. Received: $(repr(seed))")
        isimages = iscounts(shape) && length(shape) == 4 &&
                   1 <= something(checked_product(shape), 0) <= 2^24
        require(isimages, "shape must be that of images. Received: $(repr(shape))")
        logits = [checked_logits(values[name], shape[1], name) for name in ("float64", "float32")]
        require(size(logits[1]) == size(logits[2]), "the logits must be of one shape")
        return (; seed=Int(seed), shape=Tuple(Int.(shape)), digest, float64=logits[1], float32=logits[2])
    catch error
        throw(WeightsError("$source: metadata $PROBE: $(rule_broken(error))"))
    end
end

function checked_logits(rows, count, name)
    isnumbers(row) = row isa AbstractVector && all(v -> v isa Real && !(v isa Bool), row)
    isrows = rows isa AbstractVector && length(rows) == count && all(isnumbers, rows) &&
             allequal(length.(rows)) && !isempty(rows[1])
    require(isrows, "$name must be the logits of $count images")
    return Float64[row[k] for k in eachindex(rows[1]), row in rows]
end

"""
What `verify` found for one type: the norm of the difference to the file's logits over theirs, and what is
allowed: 30 times `floor`, which is what rounding does to them.
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

Whether a file still gives the logits it gave where it was written, here or in Python: a `ProbeCheck` for
`Float64` and one for `Float32`, each with `error` (norm-wise), `allowed` and `passed`. Allowed is 30 times the
largest move of the logits when weights and images are moved by one unit in the last place, five times, and
30 times 16 units in the last place of their norm at least.

Throws a `WeightsError` as `read_weights` does, for a file without a probe, and for a probe whose images are
not those of its seed.

```jldoctest
julia> model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

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
    wanted = (file.config.num_classes, file.config.in_channels)
    received = (size(probe.float64, 1), probe.shape[2])
    wanted == received || throw(WeightsError(
        "$path: metadata $PROBE: classes and channels must be $wanted. Received: $received"
    ))
    images = probe_images(probe.seed, probe.shape)
    digest = probe_digest(images)
    digest == probe.digest || throw(WeightsError(
        "$path: the probe's images are not those of its seed $(probe.seed): their digest must be $digest. " *
        "Received: $(probe.digest)",
    ))
    model = model_of(file.config, file.state)
    return [check_probe(model, images, getfield(probe, field), T) for
            (T, field) in ((Float64, :float64), (Float32, :float32))]
end

function check_probe(model, images, wanted, ::Type{T}) where {T}
    state, given = state_in(model, T), T.(images)
    base = probe_logits(model.config, state, given)
    moves = map(0:(PROBE_DRAWS - 1)) do draw
        moved = [
            name => occursin("running_", name) ? array : moved_ulps(array, draw, index - 1) for
            (index, (name, array)) in enumerate(state)
        ]
        relative_error(probe_logits(model.config, moved, moved_ulps(given, draw, 1000)), base)
    end
    floor = max(LEAST_ULPS * Float64(eps(T)), moves...)
    error, allowed = relative_error(base, wanted), PROBE_ALLOWED * floor
    return ProbeCheck(T, error, floor, allowed, error <= allowed)
end

"Each value moved one unit in the last place, up or down by the bits of `draw`; 0 stays 0."
function moved_ulps(values::Array{T}, draw, index) where {T}
    bytes = reinterpret(UInt8, htol.(raw_words(draw, STREAM.PROBE, 2, index, cld(length(values), 64))))
    up(k) = (bytes[(k - 1) ÷ 8 + 1] >> (7 - (k - 1) % 8)) & 0x01 == 0x01
    move(value, isup) = iszero(value) ? value : isup ? nextfloat(value) : prevfloat(value)
    return reshape(T[move(values[k], up(k)) for k in eachindex(values)], size(values))
end

"Norm of the difference over the norm of `wanted`; infinite where a value is not finite."
function relative_error(found, wanted)
    found, wanted = Float64.(found), Float64.(wanted)
    all(isfinite, found) && all(isfinite, wanted) || return Inf
    found == wanted && return 0.0
    iszero(wanted) && return Inf
    return norm(found - wanted) / norm(wanted)
end
