const FORMAT_VERSION = "1"

"Library name => version of everything that computes."
function versions()
    packages = (; MobileNets=@__MODULE__, Flux, NNlib, Optimisers, Zygote=Flux.Zygote)
    found = Dict(string(name) => string(pkgversion(package)) for (name, package) in pairs(packages))
    found["julia"] = string(VERSION)
    return found
end

"""
    MobileNets.save(path, model; optimizer=nothing, versions=MobileNets.versions(), metadata=Dict())

Write config and state, with an optimizer its moments too, as the exchange file, atomically. Equal
content and `versions` give equal bytes, here and in Python. Throws a `WeightsError` for a state that is
not finite, before anything is written.

```jldoctest
julia> model = build(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

julia> path = MobileNets.save(joinpath(mktempdir(), "model.safetensors"), model);

julia> MobileNets.load(path).config == model.config
true
```
"""
function save(
    path, model::MobileNet; optimizer=nothing, versions=versions(), metadata=Dict{String,String}()
)
    state = isnothing(optimizer) ? get_state(model) : get_state(model, optimizer)
    tensors = Dict{String,Array}(state)
    check_state(model.config, tensors, eltype(model), slots_of(tensors); source=path)
    canonical = Dict(
        "format_version" => FORMAT_VERSION,
        "config" => to_json(model.config),
        "versions" => json_text(sort!(collect(Dict{String,String}(versions)); by=first)),
    )
    return write_tensors(path, tensors, merge(Dict{String,String}(metadata), canonical))
end

"""
    MobileNets.read_weights(path) -> (; config, state, versions, metadata)

A file's config, state (`Dict` of name => array), the writer's library versions and what other metadata it
has. Everything is checked before it is returned; throws a `WeightsError` that names the file and the
tensor or rule.
"""
function read_weights(path)
    tensors, metadata = read_tensors(path)
    version = pop!(metadata, "format_version", nothing)
    version == FORMAT_VERSION || throw(WeightsError(
        "$path: metadata format_version must be $(repr(FORMAT_VERSION)), as pymobilenet writes it. " *
        "Received: $(repr(version))",
    ))
    config, versions = try
        from_json(MobileNetConfig, pop!(metadata, "config", "")),
        parse_object(pop!(metadata, "versions", "{}"))
    catch error
        error isa Union{ConfigError,ArgumentError} || rethrow()
        throw(WeightsError("$path: metadata: $(error.msg)"))
    end
    T = eltype(get(tensors, "classifier.weight", Float32[]))
    T in (Float32, Float64) ||
        throw(WeightsError("$path: classifier.weight must be Float32 or Float64. Received: $T"))
    check_state(config, tensors, T, slots_of(tensors); source=path)
    return (; config, state=tensors, versions, metadata)
end

"""
    MobileNets.load(path)

A model from an exchange file, with the config and type the file names. Moments in the file are left
out: `setup` an optimizer, then `set_state!(model, optimizer, MobileNets.read_weights(path).state)`.
Throws a `WeightsError` as `read_weights` does.
"""
function load(path)
    file = read_weights(path)
    model = undefined_model(file.config, eltype(file.state["classifier.weight"]))
    weights = filter(entry -> !startswith(first(entry), "optimizer."), file.state)
    return set_state!(model, weights)
end
