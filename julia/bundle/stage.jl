# Writes the project of a bundle, and prints what else the bundle holds:
#
#     julia --project=PROJECT stage.jl FOLDER
#
# FOLDER/project gets the project, whose packages are below FOLDER/depot. Each line of the output is a kind ("julia",
# "package", "artifact" or "project"), a name, a version, where it is, and its place in FOLDER, separated by zero bytes.

using Artifacts: artifact_exists, artifact_path, find_artifacts_toml,
    load_artifacts_toml
using Pkg: Pkg
using TOML: TOML

"The program of Julia in Python, see `InstalledBundle.set_program`."
const START_PROGRAM = "empty!(ARGS)\n"

print_line(fields...) = println(join(fields, '\0'))

"The packages of the active project that are not in Julia's standard library."
function packages()
    is_own((_, info)) = info.source !== nothing && !startswith(info.source, Sys.STDLIB)
    return sort!(filter(is_own, collect(Pkg.dependencies())); by=pair -> last(pair).name)
end

"Where a package is in the bundle: in a depot as in any other, or by its name if the project takes it from a path."
place(info) = info.is_tracking_path ? "depot/dev/$(info.name)" : joinpath("depot", "packages", last_two(info.source)...)

last_two(path) = splitpath(path)[(end - 1):end]

"The folders of the artifacts of a package that are installed, for any platform, with the hashes that name them."
function artifacts(source)
    toml = find_artifacts_toml(joinpath(source, "src", "any.jl"))
    toml === nothing && return Pair{String,String}[]
    entries = Iterators.flatten(entry isa Vector ? entry : [entry] for entry in values(load_artifacts_toml(toml)))
    hashes = unique(Base.SHA1(entry["git-tree-sha1"]) for entry in entries)
    return [bytes2hex(hash.bytes) => artifact_path(hash) for hash in hashes if artifact_exists(hash)]
end

"Write the project with paths that are relative to it."
function write_project(folder)
    file = Base.active_project()
    manifest_file = Base.project_file_manifest_path(file)
    manifest_file === nothing && error("the project must be resolved. Received: $file, which has no manifest")
    mkpath(folder)
    cp(file, joinpath(folder, "Project.toml"))
    for name in ("LocalPreferences.toml", "JuliaLocalPreferences.toml")
        preferences = joinpath(dirname(file), name)
        isfile(preferences) && cp(preferences, joinpath(folder, "LocalPreferences.toml"))
    end
    manifest = TOML.parsefile(manifest_file)
    for (name, entries) in get(manifest, "deps", Dict{String,Any}()), entry in entries
        haskey(entry, "path") && (entry["path"] = joinpath("..", "depot", "dev", name))
    end
    write(joinpath(folder, "start.jl"), START_PROGRAM)
    open(io -> TOML.print(io, manifest; sorted=true), joinpath(folder, "Manifest.toml"), "w")
end

function main(folder)
    write_project(joinpath(folder, "project"))
    print_line("julia", "julia", VERSION, dirname(Sys.BINDIR), "julia")
    for (_, info) in packages()
        print_line("package", info.name, something(info.version, ""), info.source, place(info))
        for (hash, path) in artifacts(info.source)
            print_line("artifact", info.name, something(info.version, ""), path, "depot/artifacts/$hash")
        end
    end
end

main(only(ARGS))
