using Aqua: Aqua
using Flux: Flux
using MLUtils: MLUtils
using Pkg: Pkg
using TOML: TOML

Aqua.test_all(MobileNets)

exported(mod) = filter(name -> Base.isexported(mod, name), names(mod))

@testset "exports can be used together with those of Flux and MLUtils" begin
    for other in (Flux, MLUtils), name in intersect(exported(MobileNets), exported(other))
        @test getfield(MobileNets, name) === getfield(other, name)
    end
    scope = Module()
    Core.eval(scope, :(using MobileNets, Flux, MLUtils))
    for mod in (MobileNets, Flux, MLUtils), name in exported(mod)
        isdefined(mod, name) && @test isdefined(scope, name)
    end
end

@testset "public names are not exported, and are public" begin
    @test isdisjoint(MobileNets.PUBLIC, exported(MobileNets)) && allunique(MobileNets.PUBLIC)
    VERSION >= v"1.11" && @test MobileNets.PUBLIC ⊆ names(MobileNets)
end

# https://github.com/JuliaRegistries/General/blob/master/README.md, section "Automatic merging of pull requests".
@testset "the package meets the requirements of Julia's General registry" begin
    folder = pkgdir(MobileNets)
    project = TOML.parsefile(joinpath(folder, "Project.toml"))
    name, version = project["name"], VersionNumber(project["version"])
    @test occursin(r"^[A-Z][A-Za-z0-9]{4,}$", name) && any(islowercase, name)
    @test !occursin("julia", lowercase(name)) && !occursin("Ju", name) && !endswith(lowercase(name), "jl")
    @test version in (v"0.0.1", v"0.1.0", v"1.0.0") || version > v"0.1.0"
    @test isempty(version.prerelease) && isempty(version.build)
    tables = (get(project, table, Dict()) for table in ("deps", "weakdeps", "extras"))
    compat = project["compat"]
    @test keys(compat) == Set(["julia"; collect(Iterators.flatten(keys.(tables)))])
    @test all(entry -> !occursin(r"[<>*]|^0$", entry), values(compat)) # every entry has an upper bound
    @test occursin("MIT License", read(joinpath(folder, "LICENSE"), String))
    for registry in Pkg.Registry.reachable_registries()
        @test all(==(Base.UUID(project["uuid"])), Pkg.Registry.uuids_from_name(registry, name))
    end
end
