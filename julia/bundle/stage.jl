# Writes the project of a bundle, and prints what else the bundle holds:
#
#     julia --project=PROJECT stage.jl FOLDER
#
# FOLDER/project gets the project, whose packages are below FOLDER/depot. Each line of the output is a kind ("julia",
# "package", "artifact" or "compiled"), a name, a version, where it is, and its place in FOLDER, separated by zero bytes.

using Artifacts: artifact_exists, artifact_path, find_artifacts_toml, load_artifacts_toml
using Pkg: Pkg
using TOML: TOML

"The program of Julia in Python, see `SET_PROGRAM` of the Python package."
const START_PROGRAM = "empty!(ARGS)\n"

julia_folder() = dirname(Sys.BINDIR)

last_parts(path, count) = joinpath(splitpath(path)[(end - count + 1):end]...)

print_line(fields...) = println(join(fields, '\0'))

"The packages of the active project."
function packages()
    has_source((_, info)) = info.source !== nothing
    return sort!(filter(has_source, collect(Pkg.dependencies())); by=pair -> last(pair).name)
end

"Where a package is in the bundle: in a depot as in any other, or by its name if the project takes it from a path."
place(info) = info.is_tracking_path ? "depot/dev/$(info.name)" : joinpath("depot", "packages", last_parts(info.source, 2))

"The folders of the artifacts of a package that are installed, for any platform, with the hashes that name them."
function artifacts(source)
    toml = find_artifacts_toml(joinpath(source, "src", "any.jl"))
    toml === nothing && return Pair{String,String}[]
    entries = Iterators.flatten(entry isa Vector ? entry : [entry] for entry in values(load_artifacts_toml(toml)))
    hashes = unique(Base.SHA1(entry["git-tree-sha1"]) for entry in entries)
    return [bytes2hex(hash.bytes) => artifact_path(hash) for hash in hashes if artifact_exists(hash)]
end

"The package of an entry of the manifest and its extensions, with their main files."
function modules(uuid, info)
    file = joinpath(info.source, "Project.toml")
    extensions = isfile(file) ? keys(get(TOML.parsefile(file), "extensions", Dict())) : ()
    ids = [Base.PkgId(Base.uuid5(uuid, name), name) => Base.find_ext_path(info.source, name) for name in extensions]
    return pushfirst!(ids, Base.PkgId(uuid, info.name) => joinpath(info.source, "src", "$(info.name).jl"))
end

"""
The cache files of a package that Julia would load. If JULIA_CPU_TARGET asks for other processors, or if the files cannot
be moved, there are none, and the package is compiled again.
"""
function compiled(uuid, info)
    can_move = VERSION < v"1.11" ? Base.JLOptions().use_pkgimages == 1 : !info.is_tracking_path
    !can_move || haskey(ENV, "JULIA_CPU_TARGET") ? String[] : mapreduce(fresh_files, vcat, modules(uuid, info))
end

function fresh_files((id, file))
    is_fresh(path) = Base.stale_cachefile(file, path; ignore_loaded=true) !== true
    is_of_julia(path) = startswith(path, joinpath(julia_folder(), "share", "julia"))
    caches = filter(path -> !is_of_julia(path) && is_fresh(path), Base.find_all_in_cache_path(id))
    return filter(isfile, [caches; map(Base.ocachefile_from_cachefile, caches)])
end

"Copy a project file and its preferences."
function copy_project(file, folder)
    mkpath(folder)
    cp(file, joinpath(folder, "Project.toml"))
    for name in Base.preferences_names
        preferences = joinpath(dirname(file), name)
        isfile(preferences) && cp(preferences, joinpath(folder, name))
    end
end

"Write the project, with paths that are relative to it, and the default environment, whose preferences apply to it."
function write_project(folder)
    file = Base.active_project()
    manifest_file = Base.project_file_manifest_path(file)
    manifest_file === nothing && error("the project must be resolved. Received: $file, which has no manifest")
    copy_project(file, joinpath(folder, "project"))
    default = Base.load_path_expand("@v#.#")
    default !== nothing && isfile(default) && copy_project(default, joinpath(folder, "depot", last_parts(dirname(default), 2)))
    manifest = TOML.parsefile(manifest_file)
    for (name, entries) in get(manifest, "deps", Dict{String,Any}()), entry in entries
        haskey(entry, "path") && (entry["path"] = joinpath("..", "depot", "dev", name))
    end
    write(joinpath(folder, "project", "start.jl"), START_PROGRAM)
    open(io -> TOML.print(io, manifest; sorted=true), joinpath(folder, "project", "Manifest.toml"), "w")
end

function main(folder)
    write_project(folder)
    print_line("julia", "julia", VERSION, julia_folder(), "julia")
    for (uuid, info) in packages()
        name, version = info.name, something(info.version, "")
        if !startswith(info.source, Sys.STDLIB)
            print_line("package", name, version, info.source, place(info))
            for (hash, path) in artifacts(info.source)
                print_line("artifact", name, version, path, "depot/artifacts/$hash")
            end
        end
        for path in compiled(uuid, info)
            print_line("compiled", name, version, path, joinpath("depot", "compiled", last_parts(path, 3)))
        end
    end
end

main(only(ARGS))
