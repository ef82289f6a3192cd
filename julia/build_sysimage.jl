# Builds a system image of the packages on which MobileNets and PythonCall rest, Flux above all:
#
#     julia --project=PROJECT build_sysimage.jl IMAGE
#
# The two themselves stay outside. So MobileNets is always the project's own, compiled once more for the image;
# and PythonCall 0.9.34, in an image, would be initialised before juliacall can tell it that it lives in Python.

using Pkg: Pkg

const OUTSIDE = ("MobileNets", "PythonCall")

"What those of `OUTSIDE` that the active project holds depend on."
function dependencies()
    found = filter(info -> info.name in OUTSIDE, collect(values(Pkg.dependencies())))
    any(info -> info.name == "MobileNets", found) ||
        error("the project must hold MobileNets. Received: $(Base.active_project())")
    uuids = merge((info.dependencies for info in found)...)
    return [Pkg.PackageSpec(; name, uuid) for (name, uuid) in uuids if !(name in OUTSIDE)]
end

"A new project of these packages alone, in the versions of the manifest."
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
    unfinished = joinpath(mktempdir(dirname(image)), basename(image))
    Base.invokelatest(compiler.create_sysimage; sysimage_path=unfinished, project, import_into_main=false)
    mv(unfinished, image; force=true)
end

main(only(ARGS))
