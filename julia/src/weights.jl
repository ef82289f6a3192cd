const FORMAT_VERSION = "1"

"Library name => version of everything that computes."
function versions()
    packages = (; MobileNets=@__MODULE__, Flux, NNlib, Optimisers, Zygote=Flux.Zygote)
    found = Dict(string(name) => string(pkgversion(package)) for (name, package) in pairs(packages))
    found["julia"] = string(VERSION)
    return found
end

"""
    MobileNets.save(path, model; optimizer=nothing, probe=true, versions=MobileNets.versions(),
                    metadata=Dict())

Write config and state, with an optimizer its moments too, atomically, in the format of the path's suffix:
`.safetensors`, the exchange file, or `.npz`, for both of which equal content, `versions` and `metadata` give
equal bytes, here and in Python; or `.jld2` (after `import JLD2`), for other users of Flux: `model_state` in
it is `Flux.state(MobileNets.flux_chain(model))`. With `probe` the metadata have the logits of two small
images, by which [`verify`](@ref) tells whether the file still means the same elsewhere.

Throws a `WeightsError` for a state that is not finite, before anything is written, and for moments in a
`.jld2` file.

```jldoctest
julia> model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> path = MobileNets.save(joinpath(mktempdir(), "model.safetensors"), model);

julia> MobileNets.load(path).config == model.config
true
```
"""
function save(
    path, model::MobileNet; optimizer=nothing, probe=true, versions=versions(),
    metadata=Dict{String,String}(),
)
    check_state(model.config, Dict{String,Array}(get_state(model)), eltype(model); source=path)
    state = isnothing(optimizer) ? get_state(model) : get_state(model, optimizer)
    metadata = Dict{String,String}(metadata)
    probe && merge!(metadata, probe_metadata(model))
    return write_weights(path, model.config, state; versions, metadata)
end

"""
    MobileNets.write_weights(path, config, state; versions=MobileNets.versions(), metadata=Dict())

What `save` does, for a state without a model.
"""
function write_weights(
    path, config::MobileNetConfig, state; versions=versions(), metadata=Dict{String,String}()
)
    kind, tensors = container_for(path), Dict{String,Array}(state)
    T = eltype(get(tensors, "classifier.weight", Float32[]))
    check_state(config, tensors, T, slots_of(tensors); source=path)
    kind == :jld2 && !isempty(slots_of(tensors)) && throw(WeightsError(
        "$path: a .jld2 file holds a model alone; moments need .safetensors or .npz. " *
        "Received: $(join(slots_of(tensors), ", "))",
    ))
    canonical = Dict(
        "format_version" => FORMAT_VERSION,
        "config" => to_json(config),
        "versions" => json_text(sort!(collect(Dict{String,String}(versions)); by=first)),
    )
    texts = merge(Dict{String,String}(metadata), canonical)
    write_container(Val(kind), path, config, tensors, texts)
    return String(path)
end

"""
    MobileNets.read_weights(path; config=nothing) -> (; config, state, versions, metadata)

A file's config, state (`Dict` of name => array), the writer's library versions and what other metadata it
has. The format is told by the content: safetensors, NumPy's npz, JLD2 (after `import JLD2`) or BSON.

JLD2 and BSON files may hold what `Flux.state` gave for any stock model of a known family, as
[`from_flux_state`](@ref) reads it. Where such a file names no config, `config` is taken, and without one it is
inferred as [`infer_config`](@ref) does. Everything is checked before it is returned; throws a `WeightsError`
that names the file and the tensor or rule.
"""
function read_weights(path; config=nothing)
    contents, metadata = read_file(path)
    version = pop!(metadata, "format_version", nothing)
    isbare = contents isa FluxState && isnothing(version)
    version == FORMAT_VERSION || isbare || throw(WeightsError(
        "$path: metadata format_version must be $(repr(FORMAT_VERSION)), as pymobilenet writes it. " *
        "Received: $(repr(version))",
    ))
    named, versions = try
        text = pop!(metadata, "config", isbare ? nothing : "")
        isnothing(text) ? nothing : from_json(MobileNetConfig, text),
        parse_object(pop!(metadata, "versions", "{}"))
    catch error
        error isa Union{ConfigError,ArgumentError} || rethrow()
        throw(WeightsError("$path: metadata: $(error.msg)"))
    end
    config = agreed_config(path, named, config, contents)
    state = canonical_state(path, config, contents)
    return (; config, state, versions, metadata)
end

"The config that the file names, or the `given` one, which must not be another; else an inferred one."
function agreed_config(path, named, given, contents)
    isnothing(named) && isnothing(given) && return infer_config(contents.value; source=path)
    isnothing(named) && return given
    isnothing(given) || given == named || throw(WeightsError(
        "$path: config must be the file's own, $(to_json(named)). Received: $(to_json(given))"
    ))
    return named
end

canonical_state(path, config, contents::FluxState) =
    from_flux_state(config, contents.value; source=path)

function canonical_state(path, config, tensors)
    T = eltype(get(tensors, "classifier.weight", Float32[]))
    T in (Float32, Float64) ||
        throw(WeightsError("$path: classifier.weight must be Float32 or Float64. Received: $T"))
    check_state(config, tensors, T, slots_of(tensors); source=path)
    return tensors
end

"""
    MobileNets.load(path; config=nothing, kernels="fast")

A model from a file of any format that `read_weights` reads, with the config and type the file names, and
`kernels` as in [`build`](@ref). Moments in the file are left out: `setup` an optimizer, then
`set_state!(model, optimizer, MobileNets.read_weights(path).state)`. Throws a `WeightsError` as
`read_weights` does.
"""
function load(path; config=nothing, kernels="fast")
    file = read_weights(path; config)
    return model_of(file.config, file.state; kernels)
end

"A model with a state's values, without its moments."
function model_of(config, state; kernels="fast")
    model = undefined_model(config, eltype(state["classifier.weight"]), kernels)
    return set_state!(model, filter(entry -> !startswith(first(entry), "optimizer."), state))
end
