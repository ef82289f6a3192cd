const FORMAT_VERSION = "1"

"""
    MobileNets.versions()

Versions of Julia and of the packages of the project that results may depend on, a `Dict` of name => version, as
strings.
"""
function versions()
    numbers = Dict("MobileNets" => string(pkgversion(Base.moduleroot(@__MODULE__))), "julia" => string(VERSION))
    for id in RELATED_PACKAGES
        version = project_version(id)
        isnothing(version) || (numbers[id.name] = string(version))
    end
    return numbers
end

"Packages that are loaded only where they are needed."
const RELATED_PACKAGES = (
    Base.PkgId(Base.UUID("587475ba-b771-5e3f-ad9e-33799f191a9c"), "Flux"),
    Base.PkgId(Base.UUID("872c559c-99b0-510c-b3b7-b6c96a88d5cd"), "NNlib"),
    Base.PkgId(Base.UUID("3bd65402-5787-11e9-1adc-39752487f4e2"), "Optimisers"),
    Base.PkgId(Base.UUID("e88e6eb3-aa80-5325-afca-941959d7151f"), "Zygote"),
)

"The version of a package in the project, whether it is loaded or not; `nothing` if it is not there."
function project_version(id)
    path = Base.locate_package(id)
    return isnothing(path) ? nothing : Base.get_pkgversion_from_path(dirname(dirname(path)))
end

"""
    MobileNets.save(path, model; optimizer=nothing, probe=true, versions=MobileNets.versions(),
                    metadata=Dict())

Write config and state of a model, with the slots of an optimizer if one is given, atomically, and return `path`. The
suffix of the path, in upper or lower case, selects the format:

- `.safetensors`, the exchange file, or `.npz`. Equal content, `versions` and `metadata` give equal bytes, in Python
  too.
- `.jld2`, for other users of Flux; requires JLD2.jl to be loaded. Its `model_state` is
  `Flux.state(MobileNets.flux_chain(model))`.

`metadata` is a `Dict` of strings. With `probe`, the metadata include the logits of two small images, which
[`MobileNets.verify`](@ref) recomputes.

Throws a `WeightsError` for another suffix, for a state that is not finite, before anything is written, and for an
optimizer in a `.jld2` file.

```jldoctest
julia> model = MobileNet(MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10));

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

[`MobileNets.save`](@ref) for a state, any iterable of name => array, without a model.
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
    required = Dict(
        "format_version" => FORMAT_VERSION,
        "config" => to_json(config),
        "versions" => json_text(sort!(collect(Dict{String,String}(versions)); by=first)),
    )
    write_container(Val(kind), path, config, tensors, merge(Dict{String,String}(metadata), required))
    return String(path)
end

"""
    MobileNets.read_weights(path; config=nothing) -> (; config, state, versions, metadata, assumed)

The config of a file, its state (a `Dict` of name => array), the library versions of the writer, and the other metadata.
The format is detected from the content: safetensors, NumPy's npz, JLD2 (requires JLD2.jl to be loaded) or BSON.

JLD2 and BSON files may contain the `Flux.state` of any stock model of a known family, see
[`MobileNets.from_flux_state`](@ref). If such a file has no config, `config` is used, or else the config is inferred,
see [`MobileNets.infer_config`](@ref). `assumed` has the fields that change outputs and that the file does not state.

All content is checked; throws a `WeightsError` that names the file and the tensor or rule.
"""
read_weights(path; config=nothing) = on_own_stack(() -> read_any_file(path, config))

function read_any_file(path, config)
    contents, metadata = read_file(path)
    version = pop!(metadata, "format_version", nothing)
    is_flux_file = contents isa FluxState && isnothing(version)
    version == FORMAT_VERSION || is_flux_file || throw(WeightsError(
        "$path: metadata format_version must be $(repr(FORMAT_VERSION)), as pymobilenet writes it. " *
        "Received: $(repr(version))",
    ))
    file_config, versions = try
        text = pop!(metadata, "config", is_flux_file ? nothing : "")
        isnothing(text) ? nothing : from_json(MobileNetConfig, text),
        parse_object(pop!(metadata, "versions", "{}"))
    catch error
        error isa Union{ConfigError,ArgumentError} || rethrow()
        throw(WeightsError("$path: metadata: $(error.msg)"))
    end
    is_inferred = isnothing(file_config) && isnothing(config)
    config = select_config(path, file_config, config, contents)
    assumed = is_inferred ? assumed_fields(contents.value) : String[]
    state = canonical_state(path, config, contents)
    return (; config, state, versions, metadata, assumed)
end

"The config of the file, which `config` must equal if it is given; else `config`; else the inferred config."
function select_config(path, file_config, config, contents)
    isnothing(file_config) && isnothing(config) && return infer_config(contents.value; source=path)
    isnothing(file_config) && return config
    isnothing(config) || config == file_config || throw(WeightsError(
        "$path: config must be the file's own, $(to_json(file_config)). Received: $(to_json(config))"
    ))
    return file_config
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
    MobileNets.load(path; config=nothing, kernels=:fast)

The model of a file of any format that [`MobileNets.read_weights`](@ref) reads, with the config and the element type of
the file, and `kernels` as in [`MobileNet`](@ref). Optimizer slots are not loaded: use [`setup_optimizer`](@ref) and
`set_state!(model, optimizer, MobileNets.read_weights(path).state)`. Throws a `WeightsError` as `read_weights` does.
"""
function load(path; config=nothing, kernels=:fast)
    file = read_weights(path; config)
    return model_from_state(file.config, file.state; kernels)
end
