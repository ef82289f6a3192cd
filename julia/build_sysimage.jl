# Builds a system image of the packages of a project but MobileNets and PythonCall, mainly Flux:
#
#     julia --project=PROJECT build_sysimage.jl IMAGE
#
# The two packages themselves are not in the image: MobileNets is then always that of the project, compiled once for the
# image; and PythonCall 0.9.34 in an image would be initialised before juliacall can set that it runs in Python.

using Pkg: Pkg

const EXCLUDED = ("MobileNets", "PythonCall")

"The packages of the active project, Flux among them, and the dependencies of those of `EXCLUDED`."
function dependencies()
    infos = filter(info -> info.name in EXCLUDED, collect(values(Pkg.dependencies())))
    any(info -> info.name == "MobileNets", infos) ||
        error("the project must hold MobileNets. Received: $(Base.active_project())")
    uuids = merge(Pkg.project().dependencies, (info.dependencies for info in infos)...)
    return [Pkg.PackageSpec(; name, uuid) for (name, uuid) in uuids if !(name in EXCLUDED)]
end

"A new project of these packages, with the versions of the manifest."
function project_of(packages, manifest)
    folder = mktempdir()
    cp(manifest, joinpath(folder, "Manifest.toml"))
    Pkg.activate(folder)
    Pkg.add(packages; preserve=Pkg.PRESERVE_ALL)
    return folder
end

function main(path)
    image = abspath(path)
    isdir(dirname(image)) || error("the folder of a system image must exist. Received: $path")
    packages = dependencies()
    manifest = Base.project_file_manifest_path(Base.active_project())
    Pkg.activate(; temp=true)
    Pkg.add("PackageCompiler")
    compiler = Base.require(Main, :PackageCompiler)
    project = project_of(packages, manifest)
    temporary = joinpath(mktempdir(dirname(image)), basename(image))
    Base.invokelatest(compiler.create_sysimage; sysimage_path=temporary, project, import_into_main=false)
    mv(temporary, image; force=true)
end

main(only(ARGS))
